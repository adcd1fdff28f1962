"""The cache of trunks: one safetensors file a trunk, checked against its digest whenever it is read."""

import os
import platform
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from featx.atomic import replacing
from featx.errors import WeightsError, WeightsMismatch, WeightsNotFound
from featx.spec import PREPROCESSINGS
from featx.weights.digest import trunk_digest
from featx.weights.readers import read_weights
from featx.weights.trunks import TRUNKS, TrunkWeights

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
    """Where the cache keeps the trunk ``name``, whether it is there or not."""
    return cache_folder() / f"{name}{SUFFIX}"


def cached_names() -> list[str]:
    """Names of the trunks in the cache, sorted."""
    return sorted(file.name.removesuffix(SUFFIX) for file in cache_folder().glob(f"[!.]*{SUFFIX}"))


def read_metadata(name: str) -> dict[str, str]:
    """What the cache notes of a trunk beside its tensors: digest, preprocessing, source; empty if unreadable."""
    try:
        with safe_open(cached_file(name), framework="numpy") as file:
            return file.metadata() or {}
    except (OSError, SafetensorError):
        return {}


def read_cached(name: str) -> TrunkWeights:
    """A trunk from the cache.

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
    noted, digest = read_metadata(name), trunk_digest(tensors)
    expected = (TRUNKS[name].digest if name in TRUNKS else "") or noted.get("digest", "none")
    if digest != expected:
        raise WeightsMismatch(f"{file} is damaged: the sha256 of its weights must be {expected}, got {digest}")
    preprocessing = noted.get("preprocessing", "none")
    if preprocessing not in PREPROCESSINGS:
        raise WeightsError(
            f"{file} is damaged: its preprocessing must be one of {', '.join(PREPROCESSINGS)}, got {preprocessing}"
        )
    return TrunkWeights(name, digest, preprocessing, noted.get("source", str(file)), tensors)


def write_cached(weights: TrunkWeights) -> Path:
    """Put a trunk into the cache, whole or not at all, and say where; ``WeightsError`` if it cannot be written."""
    file = cached_file(weights.name)
    metadata = {"digest": weights.digest, "preprocessing": weights.preprocessing, "source": weights.source}
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with replacing(file) as temporary:
            save_file(weights.tensors, temporary, metadata)
    except (OSError, SafetensorError) as error:
        raise WeightsError(
            f"the cache of weights {file.parent} cannot be written: {error}; set FEATX_CACHE to a folder that can"
        ) from error
    return file
