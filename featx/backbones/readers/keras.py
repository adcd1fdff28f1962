"""Read Keras files: HDF5 weights of Keras 1 to 3, whole models, and ``.keras`` archives.

These files differ only in names and nesting. Each convolution is a group with a 4-D kernel (HWIO) and a 1-D bias. If
the names of the groups are sorted naturally (``block1_conv2`` before ``block2_conv1``, ``conv2d_2`` before
``conv2d_10``), the first 13 convolutions are the backbone.
"""

import io
import re
import zipfile
from pathlib import Path, PurePosixPath
from typing import Any

import h5py
import numpy as np

from featx.backbones.digest import check_shape
from featx.backbones.vgg16 import CONVOLUTIONS, tensor_shapes
from featx.errors import WeightsError
from featx.files import WEIGHTS, open_untrusted, oversize_reason

MEMBER = "model.weights.h5"


def read_keras(path: Path) -> dict[str, np.ndarray]:
    """Read the tensors of the backbone from a Keras HDF5 file, and transpose weights to OIHW."""
    with open_untrusted(path, WeightsError) as file:
        return _read(file, path)


def read_keras_archive(path: Path) -> dict[str, np.ndarray]:
    """Read the tensors of the backbone from a ``.keras`` archive, and transpose weights to OIHW."""
    with zipfile.ZipFile(path) as archive:
        member = archive.getinfo(MEMBER)
        if member.file_size > WEIGHTS.bytes:
            raise WeightsError(f"{MEMBER} of {path} must have at most {WEIGHTS.bytes:,} bytes, got "
                               f"{member.file_size:,}; {WEIGHTS.remedy}")  # fmt: skip
        if why := oversize_reason(member.file_size, member.compress_size):
            raise WeightsError(f"{MEMBER} of {path} {why}")
        content = io.BytesIO(archive.read(MEMBER))
    with open_untrusted(content, WeightsError, f"{MEMBER} of {path}") as file:
        return _read(file, path)


def _read(file: Any, path: Path) -> dict[str, np.ndarray]:
    tensors: dict[str, np.ndarray] = {}
    names = iter(tensor_shapes())
    # zip stops at the 13th convolution: layers on top of the backbone are not read.
    for (weight, bias), (kernel, offset) in zip(
        zip(names, names, strict=True), _convolutions(file, path), strict=False
    ):
        # Shapes are checked before reading, because a damaged file may announce any size.
        check_shape(weight, tuple(kernel.shape[axis] for axis in (3, 2, 0, 1)), str(path))
        check_shape(bias, offset.shape, str(path))
        tensors[weight] = np.asarray(kernel[()]).transpose(3, 2, 0, 1)
        tensors[bias] = np.asarray(offset[()])
    return tensors


def _convolutions(file: Any, path: Path) -> list[tuple[Any, Any]]:
    """Find the (kernel, bias) datasets of all convolutions, in the order of the network."""
    groups: dict[str, list[Any]] = {}
    normalizations = set[str]()

    def collect(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and not name.startswith("optimizer"):
            normalizations.update(re.findall(r"batch_?normalization[^/]*|\bbn\w*", name.lower())[:1])
            groups.setdefault(str(PurePosixPath(name).parent), []).append(item)

    file.visititems(collect)
    if len(normalizations) >= len(CONVOLUTIONS):  # if there are fewer, they may belong to layers on top of the backbone
        raise WeightsError(f"{path} must have VGG16 without batch normalization, but has one after each convolution; "
                           "fold them into the convolutions")  # fmt: skip
    pairs = {name: sorted(group, key=lambda item: -item.ndim) for name, group in groups.items()}
    return [
        (pair[0], pair[1])
        for _, pair in sorted(pairs.items(), key=lambda entry: _natural(entry[0]))
        if [item.ndim for item in pair] == [4, 1]
    ]


def _natural(name: str) -> list[str | int]:
    return [int(part) if part.isdecimal() else part for part in re.split(r"([0-9]+)", name)]
