"""The parts of a model as torch modules: normalizers, and the whole classifier from pixels to logits."""

import warnings
from collections.abc import Sequence

import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from featx.backbones import PREPROCESSINGS
from featx.engines import Normalize, TorchBackbone, pool_outputs
from featx.errors import SpecError
from featx.spec import ExtractSpec

FLOOR = 1e-10
"""A value with a smaller magnitude gets no gradient through a power, because the slope of a power is infinite at 0."""


class PowerNormalize(nn.Module):
    """`featx.heads.BlockNormalizer` in torch: a signed power, then unit L2 norm of each block of columns.

    Parameters
    ----------
    widths : sequence of int
        Number of columns of each block.
    power : float
        The exponent.
    """

    def __init__(self, widths: Sequence[int], power: float) -> None:
        super().__init__()
        self.widths, self.power = list(widths), power

    def forward(self, x: Tensor) -> Tensor:
        """Normalize rows (n, columns). A block of zeros stays zero, and its gradient is zero."""
        powered = x.sign() * x.abs().clamp(min=FLOOR).pow(self.power)
        blocks = torch.split(powered, self.widths, dim=1)
        return torch.cat([nn.functional.normalize(block, dim=1) for block in blocks], dim=1)

    def extra_repr(self) -> str:
        """Return what torch shows between the parentheses of the module's repr."""
        return f"widths={self.widths}, power={self.power}"


class Standardize(nn.Module):
    """scikit-learn's ``StandardScaler`` in torch: subtract the mean and divide by the scale of each column."""

    mean: Tensor
    scale: Tensor

    def __init__(self, mean: ArrayLike, scale: ArrayLike) -> None:
        super().__init__()
        self.register_buffer("mean", torch.as_tensor(mean, dtype=torch.float32))
        self.register_buffer("scale", torch.as_tensor(scale, dtype=torch.float32))

    def forward(self, x: Tensor) -> Tensor:
        """Standardize rows (n, columns)."""
        return (x - self.mean) / self.scale


class ImageClassifier(nn.Module):
    """Map images to logits by preprocessing, backbone, poolings, normalizer and head.

    Every part can be trained or replaced. The head may be any module that maps (n, columns) to (n, outputs). At first
    it is one ``torch.nn.Linear``. The parameters of the backbone are named by torchvision's layer numbers, such as
    ``backbone.features.{i}.weight``. The parameters of the head are ``head.weight`` and ``head.bias``.

    Parameters
    ----------
    spec : ExtractSpec
        The features that the head takes. All parts compute in float32, even if the spec has another precision.
    classes : tuple of str
        Class names, in the order of the logits.
    backbone : TorchBackbone
        The backbone up to the spec's last block.
    normalizer, head : torch.nn.Module
        The modules that follow the poolings.
    """

    def __init__(
        self,
        spec: ExtractSpec,
        classes: tuple[str, ...],
        backbone: TorchBackbone,
        normalizer: nn.Module,
        head: nn.Module,
    ) -> None:
        super().__init__()
        preprocessing = PREPROCESSINGS[spec.preprocessing]
        self.spec, self.classes = spec, classes
        self.preprocess = Normalize(preprocessing.mean, preprocessing.std)
        self.backbone, self.normalizer, self.head = backbone, normalizer, head
        self._range_checked = False

    def forward(self, images: Tensor) -> Tensor:
        """Compute the logits of images.

        Parameters
        ----------
        images : tensor (n, 3, size, size)
            RGB images of the spec's size, as uint8 or as float from ``preprocess``. If you have floats from 0 to 1, as
            torchvision's ``ToTensor`` returns them, give ``preprocess(255 * images)``.

        Returns
        -------
        tensor (n, classes)
            One logit per class. ``argmax(1)`` gives the predicted classes. In a multi-label model, a logit above 0
            means that the image has the class.

        Raises
        ------
        SpecError
            If the images have another size.
        """
        return self.classify(self.features(images))

    def features(self, images: Tensor) -> Tensor:
        """Compute features, float32 (n, columns), in the order of ``spec.widths``. `forward` describes the images."""
        expected = (3, self.spec.size, self.spec.size)
        if images.ndim != 4 or tuple(images.shape[1:]) != expected:
            raise SpecError(
                f"images of the module must have the shape (n, {', '.join(map(str, expected))}), the size that its "
                f"head was fitted on, got {tuple(images.shape)}; resize them"
            )
        if images.is_floating_point():
            self._warn_of_wrong_range(images)
        x = images if images.is_floating_point() else self.preprocess(images)
        return torch.cat(list(pool_outputs(self.backbone(x), self.spec).values()), dim=1)

    def classify(self, features: Tensor) -> Tensor:
        """Compute the logits of features (n, columns), from `features` or from a store."""
        logits: Tensor = self.head(self.normalizer(features))
        return logits

    def _warn_of_wrong_range(self, images: Tensor) -> None:
        """Warn once, at the first call, if floats are from 0 to 1, as torchvision's loaders give them."""
        if self._range_checked or torch.compiler.is_compiling():
            return
        self._range_checked = True
        if images.numel() and images.min() >= 0 and images.max() <= 1:
            warnings.warn(
                "float images of the module must come from its preprocess, got values from 0 to 1, as torchvision's "
                "ToTensor returns them; give uint8, or module.preprocess(255 * images)",
                stacklevel=4,
            )
