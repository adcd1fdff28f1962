"""New layers on the pooled features: linear, or with a hidden layer that begins as the linear head."""

import torch
from torch import Tensor, nn

from featx.errors import SpecError
from featx.finetuning.recipe import Recipe


def make_layers(weight: Tensor, bias: Tensor, recipe: Recipe) -> nn.Module:
    """Layers from normalized features to logits.

    Parameters
    ----------
    weight, bias : tensor (classes, columns), (classes,)
        Of the linear head. With ``init="head"`` the layers give its logits, with a hidden layer too: two units a class
        hold the logit's positive and negative part, and the other units' outputs begin at zero.

    Raises
    ------
    SpecError
        If there are fewer hidden units than twice the classes.
    """
    classes, columns = weight.shape
    check_hidden(classes, recipe)
    generator = torch.Generator().manual_seed(recipe.random_state)
    if not recipe.hidden:
        head = _linear(columns, classes, generator)
        if recipe.init == "head":
            _set(head, weight, bias)
        return nn.Sequential(nn.Dropout(recipe.dropout), head) if recipe.dropout else head
    first, last = _linear(columns, recipe.hidden, generator), _linear(recipe.hidden, classes, generator)
    if recipe.init == "head":
        rest, identity = recipe.hidden - 2 * classes, torch.eye(classes)
        _set(first, torch.cat([weight, -weight, first.weight.detach()[:rest]]),
             torch.cat([bias, -bias, first.bias.detach()[:rest]]))  # fmt: skip
        _set(last, torch.cat([identity, -identity, torch.zeros(classes, rest)], dim=1), torch.zeros(classes))
    return nn.Sequential(first, nn.ReLU(), nn.Dropout(recipe.dropout), last)


def check_hidden(logits: int, recipe: Recipe) -> None:
    """``SpecError`` if a hidden layer that begins as a linear head of so many logits has too few units for it."""
    if recipe.init == "head" and 0 < recipe.hidden < 2 * logits:
        raise SpecError(
            f"--hidden of finetune must be at least {2 * logits} to begin as a head of {logits} logits, "
            f"got {recipe.hidden}; or give init random"
        )


def _linear(inputs: int, outputs: int, generator: torch.Generator) -> nn.Linear:
    layer = nn.Linear(inputs, outputs)
    bound = inputs**-0.5
    _set(
        layer, *((2 * torch.rand(shape, generator=generator) - 1) * bound for shape in ((outputs, inputs), (outputs,)))
    )
    return layer


def _set(layer: nn.Linear, weight: Tensor, bias: Tensor) -> None:
    layer.load_state_dict({"weight": weight, "bias": bias})
