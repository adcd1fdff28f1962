"""Read files whose tensors have torchvision's names: torch state dicts and safetensors."""

import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from safetensors import safe_open

from featx.backbones.digest import check_shape
from featx.backbones.vgg16 import tensor_shapes
from featx.errors import WeightsError
from featx.files import MAX_HEADER
from featx.runtime import import_optional, pluralize

WRAPPERS = ("state_dict", "model_state_dict", "model")
"""Keys under which training scripts store the state dict in their checkpoints."""


def read_safetensors(path: Path) -> dict[str, np.ndarray]:
    """Read the tensors of the backbone from a safetensors file, with the dtype of the file."""
    _check_header(path)
    with safe_open(path, framework="numpy") as file:
        keys = _backbone_keys(file.keys(), path)
        for name, key in keys.items():
            check_shape(name, tuple(file.get_slice(key).get_shape()), str(path))
        return {name: file.get_tensor(key) for name, key in keys.items()}


def _check_header(path: Path) -> None:
    """Raise ``WeightsError`` if the header is longer than the file, or longer than safetensors allows."""
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
    if length > (most := min(size - 8, MAX_HEADER)):
        raise WeightsError(
            f"{path} is truncated, or not a safetensors file: "
            f"its header must have at most {most:,} bytes, got {length:,}"
        )


def read_torch(path: Path) -> dict[str, np.ndarray]:
    """Read the tensors of the backbone from a torch checkpoint, as float32. Code in the file is never run."""
    torch = import_optional("torch", "torch", f"{path}, a torch checkpoint,")
    _check_stored(path)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch's own message is a page long, and advises the user to allow code.
        raise WeightsError(
            f"{path} must be a torch state dict, saved by torch.save(model.state_dict(), path), but "
            f"torch cannot load it ({type(error).__name__})"
        ) from error
    for wrapper in WRAPPERS:
        if isinstance(state, Mapping) and isinstance(state.get(wrapper), Mapping):
            state = state[wrapper]
    if not isinstance(state, Mapping):
        raise WeightsError(f"{path} must have a torch state dict, got {type(state).__name__}")
    keys = _backbone_keys(state, path)
    for name, key in keys.items():
        # Checked before the copy below, because in torch a few bytes can be the storage of a tensor of any shape.
        check_shape(name, tuple(state[key].shape), str(path))
    return {name: state[key].detach().float().numpy() for name, key in keys.items()}


def _check_stored(path: Path) -> None:
    """Raise ``WeightsError`` if a file in a checkpoint's zip archive is compressed. torch never compresses."""
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            if member.compress_type != zipfile.ZIP_STORED or member.file_size > member.compress_size:
                raise WeightsError(
                    f"{path} must be a checkpoint of torch.save, but {member.filename!r} is compressed, from "
                    f"{member.file_size:,} to {member.compress_size:,} bytes"
                )


def _backbone_keys(keys: Iterable[str], path: Path) -> dict[str, str]:
    """Find the key of each tensor in a file. All keys may have a prefix such as ``module.``."""
    keys = set(map(str, keys))
    first = next(iter(tensor_shapes()))
    prefixes = sorted(key.removesuffix(first) for key in keys if key == first or key.endswith(f".{first}"))
    if not prefixes:
        found = f"has {pluralize(len(keys), 'other')}: {', '.join(sorted(keys)[:3])}" if keys else "is empty"
        raise WeightsError(f"{path} must have the tensors of VGG16, such as {first}, but {found}")
    if len(prefixes) > 1:
        raise WeightsError(f"{path} must have one VGG16, got several, under {', '.join(map(repr, prefixes))}")
    return {name: prefixes[0] + name for name in tensor_shapes() if prefixes[0] + name in keys}
