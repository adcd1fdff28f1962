"""The cache of backbones: one safetensors file a backbone, checked against its digest whenever it is read."""

import os
import platform
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from featx.backbones.digest import backbone_digest
from featx.backbones.preprocessings import PREPROCESSINGS
from featx.backbones.readers.formats import read_weights
from featx.backbones.registry import BACKBONES, BackboneWeights
from featx.errors import WeightsError, WeightsMismatch, WeightsNotFound
from featx.files import atomic_write

SUFFIX = ".safetensors"


def cache_folder() -> Path:
    """``$FEATX_CACHE``, or ``featx`` in the platform's folder for a user's caches; it need not exist."""
    if chosen := os.environ.get("FEATX_CACHE"):
        return Path(chosen).expanduser()
    match platform.system():
        case "Darwin":
            folder = Path.home() / "Library" / "Caches"
        case "Windows":
            folder = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
        case _:
            folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return folder / "featx"


def cached_file(name: str) -> Path:
    """Where the cache keeps the backbone ``name``, whether it is there or not."""
    return cache_folder() / f"{name}{SUFFIX}"


def cached_names() -> list[str]:
    """Names of the backbones in the cache, sorted."""
    return sorted(file.name.removesuffix(SUFFIX) for file in cache_folder().glob(f"[!.]*{SUFFIX}"))


def read_metadata(name: str) -> dict[str, str]:
    """What the cache notes of a backbone beside its tensors: digest, preprocessing, source; empty if unreadable."""
    try:
        with safe_open(cached_file(name), framework="numpy") as file:
            return file.metadata() or {}
    except (OSError, SafetensorError):
        return {}


def read_cached(name: str) -> BackboneWeights:
    """A backbone from the cache.

    Raises
    ------
    WeightsNotFound
        If the cache does not have it.
    WeightsError, WeightsMismatch
        If its file is damaged: unreadable, or with a digest that is not the one it was stored under.
    """
    file = cached_file(name)
    if not file.exists():
        raise WeightsNotFound(f"{file} is not there")
    tensors = read_weights(file)
    noted, digest = read_metadata(name), backbone_digest(tensors)
    expected = (BACKBONES[name].digest if name in BACKBONES else "") or noted.get("digest", "none")
    if digest != expected:
        raise WeightsMismatch(f"{file} is damaged: the sha256 of its weights must be {expected}, got {digest}")
    preprocessing = noted.get("preprocessing", "none")
    if preprocessing not in PREPROCESSINGS:
        raise WeightsError(
            f"{file} is damaged: its preprocessing must be one of {', '.join(PREPROCESSINGS)}, got {preprocessing}"
        )
    return BackboneWeights(name, digest, preprocessing, noted.get("source", str(file)), tensors)


def write_cached(weights: BackboneWeights) -> Path:
    """Put a backbone into the cache, whole or not at all, and say where; ``WeightsError`` if it cannot be written."""
    file = cached_file(weights.name)
    metadata = {"digest": weights.digest, "preprocessing": weights.preprocessing, "source": weights.source}
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(file) as temporary:
            save_file(weights.tensors, temporary, metadata)
    except (OSError, SafetensorError) as error:
        raise WeightsError(
            f"the cache of weights {file.parent} cannot be written: {error}; set FEATX_CACHE to a folder that can"
        ) from error
    return file
