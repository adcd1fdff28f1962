"""A model's parts as torch modules: normalizers, and the whole way from pixels to logits."""

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
"""Magnitudes below it get no gradient through a power, whose slope has no bound at 0."""


class BlockPower(nn.Module):
    """`featx.heads.BlockNormalizer`: signed power, then unit L2 norm for each block of columns of each row."""

    def __init__(self, widths: Sequence[int], power: float) -> None:
        super().__init__()
        self.widths, self.power = list(widths), power

    def forward(self, x: Tensor) -> Tensor:
        """Rows (n, columns) to the same shape; a block that is all zero stays zero, with gradient zero."""
        powered = x.sign() * x.abs().clamp(min=FLOOR).pow(self.power)
        blocks = torch.split(powered, self.widths, dim=1)
        return torch.cat([nn.functional.normalize(block, dim=1) for block in blocks], dim=1)

    def extra_repr(self) -> str:
        """Widths and power, for torch's printed modules."""
        return f"widths={self.widths}, power={self.power}"


class Standardize(nn.Module):
    """sklearn's ``StandardScaler``: less the mean, divided by the scale, column by column."""

    mean: Tensor
    scale: Tensor

    def __init__(self, mean: ArrayLike, scale: ArrayLike) -> None:
        super().__init__()
        self.register_buffer("mean", torch.as_tensor(mean, dtype=torch.float32))
        self.register_buffer("scale", torch.as_tensor(scale, dtype=torch.float32))

    def forward(self, x: Tensor) -> Tensor:
        """Rows (n, columns) to the same shape."""
        return (x - self.mean) / self.scale


class ImageClassifier(nn.Module):
    """Images to logits: preprocessing, backbone, pooling, normalizer, head.

    Every part can be trained or replaced. The head is any module from (n, columns) to (n, rows), at first one
    ``torch.nn.Linear``; the parameters are ``backbone.features.{i}.weight`` and so on by torchvision's numbers, and
    ``head.weight`` and ``head.bias``.

    Parameters
    ----------
    spec : ExtractSpec
        Of the features that the head takes. All is computed in float32, whatever its precision class.
    classes : tuple of str
        Names of the logits' columns.
    backbone : Backbone
        With the weights, up to the spec's last block.
    normalizer, head : torch.nn.Module
        What follows the pooled features.
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
        self._looked = False

    def features(self, images: Tensor) -> Tensor:
        """Pooled features (n, columns), float32, in the order of ``spec.widths``; images as in `forward`."""
        wanted = (3, self.spec.size, self.spec.size)
        if images.ndim != 4 or tuple(images.shape[1:]) != wanted:
            raise SpecError(f"images of the module must be (n, {', '.join(map(str, wanted))}), as the features of its "
                            f"head, got {tuple(images.shape)}; resize them")  # fmt: skip
        if images.is_floating_point():
            self._look_once(images)
        x = images if images.is_floating_point() else self.preprocess(images)
        return torch.cat(list(pool_outputs(self.backbone(x), self.spec).values()), dim=1)

    def _look_once(self, images: Tensor) -> None:
        """Warn if the first floats are as loaders of torchvision give them, and not preprocessed."""
        if self._looked or torch.compiler.is_compiling():
            return
        self._looked = True
        if images.numel() and images.min() >= 0 and images.max() <= 1:
            warnings.warn("float images of the module must be as its preprocess gives them, got values of 0 to 1, as "
                          "torchvision's ToTensor gives them; give uint8, or module.preprocess(255 * images)",
                          stacklevel=4)  # fmt: skip

    def classify(self, features: Tensor) -> Tensor:
        """Logits of pooled features (n, columns), as `features` gives them or a store holds them."""
        logits: Tensor = self.head(self.normalizer(features))
        return logits

    def forward(self, images: Tensor) -> Tensor:
        """Logits of images.

        Parameters
        ----------
        images : tensor (n, 3, size, size)
            RGB at the spec's size: uint8, or float as ``preprocess`` gives it. Floats of 0 to 1, as torchvision's
            ``ToTensor`` gives them, are neither: ``preprocess`` takes them × 255.

        Returns
        -------
        tensor (n, classes)
            One logit a class. Two classes, of which an image has one, have one column, (n, 1), above 0 for the second
            class, as in sklearn.

        Raises
        ------
        SpecError
            If the images have another size.
        """
        return self.classify(self.features(images))
