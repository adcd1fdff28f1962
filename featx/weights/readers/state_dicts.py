"""Files whose tensors go by torchvision's names: torch state dicts and safetensors."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from safetensors import safe_open

from featx.blocks import tensor_shapes
from featx.errors import WeightsError

WRAPPERS = ("state_dict", "model_state_dict", "model")
"""Keys under which training scripts keep the state dict within a checkpoint."""


def read_safetensors(path: Path) -> dict[str, np.ndarray]:
    """The trunk's tensors in a safetensors file, as stored."""
    with safe_open(path, framework="numpy") as file:
        return {name: file.get_tensor(key) for name, key in _trunk_keys(file.keys(), path).items()}


def read_torch(path: Path) -> dict[str, np.ndarray]:
    """The trunk's tensors in a torch checkpoint, as float32; code in the file is refused, never run."""
    import torch

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
    return {name: state[key].detach().float().numpy() for name, key in _trunk_keys(state, path).items()}


def _trunk_keys(keys: Iterable[str], path: Path) -> dict[str, str]:
    """The file's key for each of the trunk's names, which may all have one prefix, as ``module.`` is."""
    keys = set(map(str, keys))
    first = next(iter(tensor_shapes()))
    prefixes = sorted(key.removesuffix(first) for key in keys if key == first or key.endswith(f".{first}"))
    if not prefixes:
        found = ", ".join(sorted(keys)[:3]) or "none"
        raise WeightsError(f"{path} must hold VGG16's tensors, {first} and so on; it holds {len(keys)}: {found} …")
    if len(prefixes) > 1:
        raise WeightsError(f"{path} must hold one VGG16, got several, under {', '.join(map(repr, prefixes))}")
    return {name: prefixes[0] + name for name in tensor_shapes() if prefixes[0] + name in keys}
