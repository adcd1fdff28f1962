"""The layers that fine-tuning trains: a new head, and the backbone after the last frozen block."""

from contextlib import nullcontext

import numpy as np
import torch
from torch import Tensor, nn

from featx.backbones import BLOCKS, feature_name
from featx.engines import pool_outputs
from featx.errors import SpecError
from featx.finetuning.recipe import Recipe, last_frozen_block
from featx.models import ImageClassifier
from featx.spec import ExtractSpec


class TrainableLayers(nn.Module):
    """The part of a classifier that computes logits from the output of its last frozen block.

    Parameters
    ----------
    classifier : ImageClassifier
        The classifier to train: its backbone from ``first_layer`` on, its normalizer and its head.
    first_layer : int
        Number of the first trained layer of the backbone, as torchvision counts layers.
    amp : bool
        Run the convolutions in mixed precision (bfloat16). The head takes little time, so it stays in float32 and
        predicts as scikit-learn's head does.

    Attributes
    ----------
    frozen_block : int
        Number of the last block that is frozen completely. Its output is the input of this module. If no block is
        frozen, it is 0 and the input is images.

    Raises
    ------
    SpecError
        If the backbone ends before ``first_layer``.
    """

    def __init__(self, classifier: ImageClassifier, first_layer: int, *, amp: bool = False) -> None:
        super().__init__()
        check_layer_exists(classifier.spec, first_layer)
        self.classifier, self.first_layer, self.amp = classifier, first_layer, amp
        self.frozen_block = last_frozen_block(first_layer)
        self._start = BLOCKS[self.frozen_block - 1].stop if self.frozen_block else 0
        self._trained_blocks = tuple(block for block in classifier.spec.blocks if block > self.frozen_block)
        for number, layer in enumerate(classifier.backbone.features):
            layer.requires_grad_(number >= first_layer)
        self._columns = classifier.spec.slices

    def forward(self, x: Tensor, features: Tensor) -> Tensor:
        """Compute logits (n, classes).

        Parameters
        ----------
        x : tensor (n, channels, height, width)
            Output of the last frozen block. If no block is frozen: images (n, 3, size, size), uint8.
        features : tensor (n, columns)
            Pooled features from the store. Only those of frozen blocks are used.
        """
        # The dtype does not tell whether the input is images: after mixup, images are floats.
        x = x if self.frozen_block else self.classifier.preprocess(x)
        with torch.autocast(x.device.type, torch.bfloat16) if self.amp else nullcontext():
            outputs = self.classifier.backbone(x, self._start)
        spec = self.classifier.spec
        pooled = pool_outputs(outputs, spec.select(blocks=self._trained_blocks)) if self._trained_blocks else {}
        named = {feature_name(*pair): features[:, self._columns[feature_name(*pair)]] for pair in spec.features}
        return self.classifier.classify(torch.cat(list((named | pooled).values()), dim=1))

    def parameter_groups(self, recipe: Recipe) -> list[dict[str, object]]:
        """Return the parameter groups of AdamW with their learning rates: the head, then each trained convolution."""
        head = [p for part in (self.classifier.head, self.classifier.normalizer) for p in part.parameters()]
        layers = [layer for layer in self.classifier.backbone.features if isinstance(layer, nn.Conv2d)]
        trained = [layer for layer in layers if layer.weight.requires_grad]
        rates = recipe.lr * recipe.backbone_lr_scale * recipe.layer_decay ** np.arange(len(trained))[::-1]
        return [
            {"params": head, "lr": recipe.lr},
            *({"params": list(layer.parameters()), "lr": float(r)} for layer, r in zip(trained, rates, strict=True)),
        ]


class HeadOnly(nn.Module):
    """A classifier's normalizer and head alone, with pooled features as input."""

    def __init__(self, classifier: ImageClassifier) -> None:
        super().__init__()
        self.classifier = classifier
        # Otherwise DistributedDataParallel would wait for the gradients of the backbone.
        classifier.backbone.requires_grad_(False)

    def forward(self, features: Tensor) -> Tensor:
        """Compute the logits (n, classes) of pooled features (n, columns)."""
        return self.classifier.classify(features)


def make_head_layers(weight: Tensor, bias: Tensor, recipe: Recipe) -> nn.Module:
    """Build the layers from normalized features to logits.

    With ``init="head"``, the new layers first compute the logits of the linear head. With a hidden layer, two of its
    units per class hold the positive and the negative part of the logit. The weights on the other units start at 0.

    Parameters
    ----------
    weight : tensor (classes, columns)
        Coefficients of the linear head.
    bias : tensor (classes,)
        Intercepts of the linear head.
    recipe : Recipe

    Raises
    ------
    SpecError
        If the hidden layer has fewer than two units per class.
    """
    classes, columns = weight.shape
    check_hidden_units(classes, recipe)
    generator = torch.Generator().manual_seed(recipe.random_state)
    if not recipe.hidden:
        head = _random_linear(columns, classes, generator)
        if recipe.init == "head":
            _set_weights(head, weight, bias)
        return nn.Sequential(nn.Dropout(recipe.dropout), head) if recipe.dropout else head
    first = _random_linear(columns, recipe.hidden, generator)
    last = _random_linear(recipe.hidden, classes, generator)
    if recipe.init == "head":
        rest, identity = recipe.hidden - 2 * classes, torch.eye(classes)
        _set_weights(first, torch.cat([weight, -weight, first.weight.detach()[:rest]]),
                     torch.cat([bias, -bias, first.bias.detach()[:rest]]))  # fmt: skip
        _set_weights(last, torch.cat([identity, -identity, torch.zeros(classes, rest)], dim=1), torch.zeros(classes))
    return nn.Sequential(first, nn.ReLU(), nn.Dropout(recipe.dropout), last)


def check_hidden_units(logits: int, recipe: Recipe) -> None:
    """Raise ``SpecError`` if the hidden layer has too few units to start as a linear head with ``logits`` outputs."""
    if recipe.init == "head" and 0 < recipe.hidden < 2 * logits:
        raise SpecError(
            f"--hidden of finetune must be at least {2 * logits} to start from a head of {logits} logits, "
            f"got {recipe.hidden}; give more units, or --init random"
        )


def check_layer_exists(spec: ExtractSpec, first_layer: int) -> None:
    """Raise ``SpecError`` if the blocks of a spec end before a layer."""
    last = max(spec.blocks)
    if first_layer >= BLOCKS[last - 1].stop:
        raise SpecError(
            f"--unfreeze of finetune (default: block5) must name layers of the model's backbone, which ends at block "
            f"{last}, got layers from {first_layer} on; give --unfreeze block{last}, or fit a model on blocks up to 5"
        )


def _random_linear(inputs: int, outputs: int, generator: torch.Generator) -> nn.Linear:
    """Return a linear layer with torch's default initialization, drawn from ``generator``."""
    layer = nn.Linear(inputs, outputs)
    bound = inputs**-0.5
    shapes = ((outputs, inputs), (outputs,))
    _set_weights(layer, *((2 * torch.rand(shape, generator=generator) - 1) * bound for shape in shapes))
    return layer


def _set_weights(layer: nn.Linear, weight: Tensor, bias: Tensor) -> None:
    layer.load_state_dict({"weight": weight, "bias": bias})
