"""Read a backbone from a file in any common format."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

from featx.backbones.digest import check_tensors
from featx.backbones.readers.keras import read_keras, read_keras_archive
from featx.backbones.readers.onnx_graph import read_onnx
from featx.backbones.readers.state_dicts import read_safetensors, read_torch
from featx.backbones.registry import BACKBONES
from featx.backbones.vgg16 import tensor_shapes
from featx.errors import EngineError, WeightsError
from featx.files import WEIGHTS, check_bytes, check_limits, unreadable_error

Tensors = dict[str, np.ndarray]


def read_weights(path: str | Path) -> Tensors:
    """Read the backbone of VGG16 from a file in any common format.

    The format is recognized by the content of the file, so the name does not matter. The formats are torch state dicts
    (loaded with ``weights_only=True``), safetensors, Keras HDF5 (``.h5`` and ``.weights.h5``), ``.keras`` and ONNX.
    Other content, such as a classifier, is ignored.

    Files of Keras have their first layer in BGR order. If the first layer of the file is equal to the first layer of a
    known backbone in BGR order, it is converted to RGB. This also works for a fine-tuned checkpoint whose first layer
    was frozen. Any other first layer is assumed to be in RGB order.

    Returns
    -------
    dict
        26 C-contiguous float32 arrays: ``features.{i}.weight`` (OIHW, RGB) and ``features.{i}.bias``.

    Raises
    ------
    WeightsUnreadable
        If the file cannot be read now: another program locks it, access is denied, or its disk fails.
    WeightsError
        If the file does not exist, has another format, or has no VGG16. The message names the file and the tensor.
    EngineError
        If the file is a torch state dict and torch is not installed.
    """
    path = Path(path)
    check_limits()
    try:
        label, reader = _format_of(path)
    except WeightsError:
        raise
    except OSError as error:
        unreadable = None if isinstance(error, FileNotFoundError) else unreadable_error(path, error, WeightsError)
        raise unreadable or WeightsError(f"the weights file {path} cannot be read: {error.strerror}") from error
    try:
        tensors = reader(path)
        tensors = {name: np.ascontiguousarray(tensors[name], np.float32) for name in tensor_shapes() if name in tensors}
    except (WeightsError, EngineError):
        raise
    except Exception as error:  # The parsers of four libraries raise any exception for damaged files.
        if unreadable := unreadable_error(path, error, WeightsError):
            raise unreadable from error
        check_bytes(path, WeightsError)
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise WeightsError(f"{path} cannot be read as {label}: {reason}") from error
    check_tensors(tensors, str(path))
    return _in_rgb(tensors)


def _format_of(path: Path) -> tuple[str, Callable[[Path], Tensors]]:
    if (size := path.stat().st_size) > WEIGHTS.bytes:
        raise WeightsError(
            f"{path} must have at most {WEIGHTS.bytes:,} bytes, got {size:,}; save the backbone alone, or "
            f"{WEIGHTS.remedy}"
        )
    with path.open("rb") as file:
        head = file.read(64)
    if head.startswith(b"\x89HDF\r\n\x1a\n"):
        return "Keras HDF5", read_keras
    if head.startswith(b"PK\x03\x04"):  # zip: the name of the first member follows 30 bytes of header
        if head[30:].startswith((b"metadata.json", b"config.json", b"model.weights.h5")):
            return "a Keras archive", read_keras_archive
        return "a torch state dict", read_torch
    if head.startswith(b"\x80\x02"):  # torch.save before version 1.6
        return "a torch state dict", read_torch
    if head[8:9] == b"{":
        return "safetensors", read_safetensors
    return "torch, safetensors, Keras HDF5 or ONNX, the formats that featx reads", read_onnx


def _in_rgb(tensors: Tensors) -> Tensors:
    first = next(iter(tensor_shapes()))
    flipped = np.ascontiguousarray(tensors[first][:, ::-1])
    if hashlib.sha256(flipped.data).hexdigest() in {backbone.first_layer for backbone in BACKBONES.values()}:
        return {**tensors, first: flipped}
    return tensors
