"""Check the 26 tensors of a backbone, and identify them by a digest of their content."""

import hashlib
from collections.abc import Mapping

import numpy as np

from featx.backbones.vgg16 import tensor_shapes
from featx.errors import WeightsError


def backbone_digest(tensors: Mapping[str, np.ndarray]) -> str:
    """Compute the sha256 of a backbone's tensors, as hex. It does not depend on the format of the file.

    Parameters
    ----------
    tensors : mapping
        ``features.{i}.weight`` (float32, OIHW, first layer in RGB order) and ``features.{i}.bias`` (float32) of
        VGG16's 13 convolutions. Other names are ignored.

    Raises
    ------
    WeightsError
        If `check_tensors` refuses a tensor.
    """
    check_tensors(tensors, "the backbone")
    digest = hashlib.sha256()
    for name in tensor_shapes():
        digest.update(np.ascontiguousarray(tensors[name], dtype="<f4").data)
    return digest.hexdigest()


def check_tensors(tensors: Mapping[str, np.ndarray], owner: str) -> None:
    """Raise ``WeightsError`` for the first tensor that is missing, has a wrong shape, or is not finite float32.

    ``owner`` is the name of the object that has the tensors, such as a file. The message contains this name.
    """
    for name in tensor_shapes():
        if name not in tensors:
            raise WeightsError(f"{owner} must have the 13 convolutions of VGG16, but {name} is missing")
        tensor = tensors[name]
        check_shape(name, tensor.shape, owner)
        if tensor.dtype != np.float32:
            raise WeightsError(f"{name} of {owner} must be float32, got {tensor.dtype}")
        if not np.isfinite(tensor).all():
            bad = int(tensor.size - np.isfinite(tensor).sum())
            raise WeightsError(f"{name} of {owner} must be finite, got {bad} NaN or infinite values of {tensor.size}")


def check_shape(name: str, shape: tuple[int, ...], owner: str) -> None:
    """Raise ``WeightsError`` if ``shape`` is not the shape of the tensor ``name`` in VGG16."""
    if tuple(shape) != (expected := tensor_shapes()[name]):
        raise WeightsError(f"{name} of {owner} must have the shape of VGG16, {expected}, got {tuple(shape)}")
