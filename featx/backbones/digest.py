"""The backbone's 26 tensors: what they must be, and the digest that names them by content."""

import hashlib
from collections.abc import Mapping

import numpy as np

from featx.backbones.vgg16 import tensor_shapes
from featx.errors import WeightsError


def backbone_digest(tensors: Mapping[str, np.ndarray]) -> str:
    """sha256 of a backbone's tensors, as hex: the same for the same numbers, whatever file they came in.

    Parameters
    ----------
    tensors : mapping
        ``features.{i}.weight`` (float32, OIHW, first layer in RGB order) and ``features.{i}.bias`` (float32) of
        VGG16's 13 convolutions; other names are ignored.

    Raises
    ------
    WeightsError
        As `check_tensors` does.
    """
    check_tensors(tensors, "the backbone")
    digest = hashlib.sha256()
    for name in tensor_shapes():
        digest.update(np.ascontiguousarray(tensors[name], dtype="<f4").data)
    return digest.hexdigest()


def check_tensors(tensors: Mapping[str, np.ndarray], owner: str) -> None:
    """Raise ``WeightsError`` naming the first tensor that is missing, misshapen, not float32 or not finite."""
    for name in tensor_shapes():
        if name not in tensors:
            raise WeightsError(f"{owner} must hold VGG16's 13 convolutions, but {name} is missing")
        tensor = tensors[name]
        check_shape(name, tensor.shape, owner)
        if tensor.dtype != np.float32:
            raise WeightsError(f"{name} of {owner} must be float32, got {tensor.dtype}")
        if not np.isfinite(tensor).all():
            bad = int(tensor.size - np.isfinite(tensor).sum())
            raise WeightsError(f"{name} of {owner} must be finite, got {bad} NaN or infinite values of {tensor.size}")


def check_shape(name: str, shape: tuple[int, ...], owner: str) -> None:
    """Raise ``WeightsError`` with both shapes if ``shape`` is not VGG16's for the tensor ``name``."""
    if tuple(shape) != (expected := tensor_shapes()[name]):
        raise WeightsError(f"{name} of {owner} must have VGG16's shape {expected}, got {tuple(shape)}")
