"""Files whose tensors go by torchvision's names: torch state dicts and safetensors."""

import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from safetensors import safe_open

from featx.backbones.digest import check_shape
from featx.backbones.vgg16 import tensor_shapes
from featx.errors import WeightsError
from featx.files import MAX_HEADER
from featx.runtime import import_optional

WRAPPERS = ("state_dict", "model_state_dict", "model")
"""Keys under which training scripts keep the state dict within a checkpoint."""


def read_safetensors(path: Path) -> dict[str, np.ndarray]:
    """The backbone's tensors in a safetensors file, as stored."""
    _check_header(path)
    with safe_open(path, framework="numpy") as file:
        keys = _backbone_keys(file.keys(), path)
        for name, key in keys.items():
            check_shape(name, tuple(file.get_slice(key).get_shape()), str(path))
        return {name: file.get_tensor(key) for name, key in keys.items()}


def _check_header(path: Path) -> None:
    """Raise ``WeightsError`` if a header is longer than its file, or than safetensors allows."""
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
    if length > (most := min(size - 8, MAX_HEADER)):
        raise WeightsError(f"{path} is cut short, or no safetensors file: its header claims {length:,} bytes, and "
                           f"at most {most:,} are possible")  # fmt: skip


def read_torch(path: Path) -> dict[str, np.ndarray]:
    """The backbone's tensors in a torch checkpoint, as float32; code in the file is refused, never run."""
    torch = import_optional("torch", "torch", f"{path}, a torch checkpoint,")
    _check_stored(path)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # Its message runs to a page, and advises to switch the safety off.
        raise WeightsError(
            f"{path} must be a torch state dict, saved by torch.save(model.state_dict(), path); "
            f"torch cannot load it as one ({type(error).__name__})"
        ) from error
    for wrapper in WRAPPERS:
        if isinstance(state, Mapping) and isinstance(state.get(wrapper), Mapping):
            state = state[wrapper]
    if not isinstance(state, Mapping):
        raise WeightsError(f"{path} must hold a torch state dict, got {type(state).__name__}")
    keys = _backbone_keys(state, path)
    for name, key in keys.items():
        # A few bytes may be shown as a tensor of any shape.
        check_shape(name, tuple(state[key].shape), str(path))
    return {name: state[key].detach().float().numpy() for name, key in keys.items()}


def _check_stored(path: Path) -> None:
    """Raise ``WeightsError`` if a member of a checkpoint's zip archive is compressed: torch compresses none."""
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            if member.compress_type != zipfile.ZIP_STORED or member.file_size > member.compress_size:
                raise WeightsError(f"{path} must be as torch.save writes it, but {member.filename!r} is compressed, "
                                   f"to {member.compress_size:,} of {member.file_size:,} bytes")  # fmt: skip


def _backbone_keys(keys: Iterable[str], path: Path) -> dict[str, str]:
    """The file's key for each of the backbone's names, which may all have one prefix, as ``module.`` is."""
    keys = set(map(str, keys))
    first = next(iter(tensor_shapes()))
    prefixes = sorted(key.removesuffix(first) for key in keys if key == first or key.endswith(f".{first}"))
    if not prefixes:
        found = ", ".join(sorted(keys)[:3]) or "none"
        raise WeightsError(f"{path} must hold VGG16's tensors, {first} and so on; it holds {len(keys)}: {found} …")
    if len(prefixes) > 1:
        raise WeightsError(f"{path} must hold one VGG16, got several, under {', '.join(map(repr, prefixes))}")
    return {name: prefixes[0] + name for name in tensor_shapes() if prefixes[0] + name in keys}
