"""What follows the backbone, as a module from the tapped blocks' outputs to one logit a class."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from featx.engines import pool_outputs
from featx.errors import EngineError
from featx.models import ImageClassifier


class Tail(nn.Module):
    """Pooling, normalizer and head of a classifier; each block goes in by an identity, ``taps[i]``.

    A block's gradient is that of its own pooled features: what later blocks make of it is theirs.
    """

    def __init__(self, module: ImageClassifier) -> None:
        super().__init__()
        self.spec = module.spec
        self.taps = nn.ModuleList(nn.Identity() for _ in module.spec.blocks)
        self.classify = nn.Sequential(module.normalizer, module.head)

    def forward(self, *outputs: Tensor) -> Tensor:
        """Logits (n, classes) of blocks' outputs (n, channels, height, width), in the spec's order."""
        tapped = {number: tap(output) for number, tap, output in zip(self.spec.blocks, self.taps, outputs, strict=True)}
        return self.logits(torch.cat(list(pool_outputs(tapped, self.spec).values()), dim=1).double())

    def logits(self, features: Tensor) -> Tensor:
        """Logits of pooled features, float64; two classes of one logit have two, of opposite signs."""
        values: Tensor = self.classify(features)
        return torch.cat((-values, values), dim=1) if values.shape[1] == 1 else values


def gradient_maps(tail: Tail, tapped: Mapping[int, Tensor], code: int) -> dict[int, Tensor]:
    """Gradient × activation of a class's logit, summed over channels: (height, width) a block."""
    outputs = [output.detach().requires_grad_() for output in tapped.values()]
    gradients = torch.autograd.grad(tail(*outputs)[0, code], outputs)
    products = [(gradient * output)[0].sum(0).detach() for gradient, output in zip(gradients, outputs, strict=True)]
    return dict(zip(tapped, products, strict=True))


def grad_cam_maps(tail: Tail, tapped: Mapping[int, Tensor], code: int) -> dict[int, Tensor]:
    """Grad-CAM of a class's logit, without normalization: (height, width) a block.

    Selvaraju et al. (2017), "Grad-CAM: Visual explanations from deep networks via gradient-based localization".
    """
    try:
        from captum.attr import LayerGradCam
    except ModuleNotFoundError as error:
        raise EngineError(
            f"--method grad-cam of explain needs a package: pip install 'featx[explain]' ({error}); or give cam"
        ) from error
    outputs = tuple(output.detach().requires_grad_() for output in tapped.values())
    maps = [
        LayerGradCam(tail, tap).attribute(outputs, target=code, relu_attributions=True)[0, 0].detach()
        for tap in tail.taps
    ]
    return dict(zip(tapped, maps, strict=True))
