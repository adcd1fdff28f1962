"""Cache backbones as safetensors files, and check the digest of a backbone at each read."""

import os
import platform
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from featx.backbones.digest import backbone_digest
from featx.backbones.readers.formats import read_weights
from featx.backbones.registry import BACKBONES, PREPROCESSINGS, BackboneWeights
from featx.errors import WeightsError, WeightsMismatch, WeightsNotFound
from featx.files import atomic_write, wrap_read_errors

SUFFIX = ".safetensors"


def cache_folder() -> Path:
    """Return the folder of the cache, which may not exist: ``$FEATX_CACHE`` or ``featx`` in the user's cache folder."""
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
    """Return the path of a backbone's file in the cache. The file may not exist."""
    return cache_folder() / f"{name}{SUFFIX}"


def cached_names() -> list[str]:
    """List the names of the backbones in the cache, sorted."""
    return sorted(file.name.removesuffix(SUFFIX) for file in cache_folder().glob(f"[!.]*{SUFFIX}"))


def read_metadata(name: str) -> dict[str, str]:
    """Read the digest, preprocessing and source of a cached backbone. Return no entries if the file cannot be read."""
    try:
        return _read_metadata(cached_file(name))
    except (OSError, SafetensorError):
        return {}


def _read_metadata(file: Path) -> dict[str, str]:
    with safe_open(file, framework="numpy") as opened:
        return opened.metadata() or {}


def read_cached(name: str) -> BackboneWeights:
    """Read a backbone from the cache, and check its digest.

    Raises
    ------
    WeightsNotFound
        If the backbone is not in the cache.
    WeightsUnreadable
        If its file cannot be read now, although it may be intact.
    WeightsError, WeightsMismatch
        If its file is damaged: its format is unknown, or its digest differs from the stored digest.
    """
    file = cached_file(name)
    with wrap_read_errors(file, WeightsError, lambda error: WeightsError(f"{file} is damaged: {error}")):
        if not file.exists():
            raise WeightsNotFound(f"{file} does not exist")
        tensors = read_weights(file)
        metadata = _read_metadata(file)
    digest = backbone_digest(tensors)
    expected = (BACKBONES[name].digest if name in BACKBONES else "") or metadata.get("digest", "none")
    if digest != expected:
        raise WeightsMismatch(f"{file} is damaged: the sha256 of its weights must be {expected}, got {digest}")
    preprocessing = metadata.get("preprocessing", "none")
    if preprocessing not in PREPROCESSINGS:
        raise WeightsError(
            f"{file} is damaged: its preprocessing must be one of {', '.join(PREPROCESSINGS)}, got {preprocessing}"
        )
    return BackboneWeights(name, digest, preprocessing, metadata.get("source", str(file)), tensors)


def write_cached(weights: BackboneWeights) -> Path:
    """Write a backbone to the cache atomically, and return the file. Raise ``WeightsError`` if that fails."""
    file = cached_file(weights.name)
    metadata = {"digest": weights.digest, "preprocessing": weights.preprocessing, "source": weights.source}
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(file) as temporary:
            save_file(weights.tensors, temporary, metadata)
    except (OSError, SafetensorError) as error:
        raise WeightsError(
            f"the cache of weights {file.parent} cannot be written: {error}; set FEATX_CACHE to another folder"
        ) from error
    return file
