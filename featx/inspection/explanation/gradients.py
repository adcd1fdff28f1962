"""Compute class maps from the gradients of a logit with respect to the feature maps of the backbone."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from featx.engines import pool_outputs
from featx.models import ImageClassifier


class FeatureMapHead(nn.Module):
    """Pooling, normalizer and head of a classifier: from feature maps to one logit per class.

    The feature map of each block is a separate input. So the gradient of a map comes only from the features that are
    pooled from this map. It does not pass through later blocks.
    """

    def __init__(self, module: ImageClassifier) -> None:
        super().__init__()
        self.spec = module.spec
        self.classify = nn.Sequential(module.normalizer, module.head)

    def forward(self, *feature_maps: Tensor) -> Tensor:
        """Return the logits (n, classes) for feature maps (n, channels, height, width), one per block of the spec."""
        by_block = dict(zip(self.spec.blocks, feature_maps, strict=True))
        return self.logits(torch.cat(list(pool_outputs(by_block, self.spec).values()), dim=1).double())

    def logits(self, features: Tensor) -> Tensor:
        """Return the float64 logits (n, classes) for pooled features (n, columns)."""
        values: Tensor = self.classify(features)
        return values


def gradient_maps(head: FeatureMapHead, feature_maps: Mapping[int, Tensor], code: int) -> dict[int, Tensor]:
    """Multiply feature maps by the gradient of a class's logit and sum over channels.

    Returns a map (height, width) per block. If the logit is linear in the feature maps, all values and the intercept
    add up to the logit (class activation maps, Zhou et al. 2016).
    """
    return _weight_channels(head, feature_maps, code, lambda gradient: gradient)


def grad_cam_maps(head: FeatureMapHead, feature_maps: Mapping[int, Tensor], code: int) -> dict[int, Tensor]:
    """Compute the Grad-CAM maps of a class's logit: one map (height, width) per block, without normalization.

    Selvaraju et al. (2017), "Grad-CAM: Visual explanations from deep networks via gradient-based localization".
    """
    maps = _weight_channels(head, feature_maps, code, lambda gradient: gradient.mean(dim=(2, 3), keepdim=True))
    return {block: values.relu() for block, values in maps.items()}


def _weight_channels(
    head: FeatureMapHead, feature_maps: Mapping[int, Tensor], code: int, weights_of: Callable[[Tensor], Tensor]
) -> dict[int, Tensor]:
    inputs = [output.detach().requires_grad_() for output in feature_maps.values()]
    gradients = torch.autograd.grad(head(*inputs)[0, code], inputs)
    pairs = zip(feature_maps.items(), gradients, strict=True)
    return {block: (weights_of(gradient) * output.detach())[0].sum(dim=0) for (block, output), gradient in pairs}
