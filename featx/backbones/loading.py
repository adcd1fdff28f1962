"""Load backbones by name: from a file, from the cache, or by download."""

import dataclasses
import difflib
import logging
import warnings
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from featx.backbones.cache import cached_file, cached_names, read_cached, read_metadata, write_cached
from featx.backbones.digest import backbone_digest
from featx.backbones.readers.formats import read_weights
from featx.backbones.registry import BACKBONES, BackboneWeights, KnownBackbone, check_name, check_preprocessing
from featx.backbones.sources import sources_of
from featx.errors import WeightsError, WeightsMismatch, WeightsNotFound, WeightsUnreadable
from featx.runtime import import_optional

logger = logging.getLogger(__name__)

DEFAULT_PREPROCESSING = "oxford"


@dataclass(frozen=True)
class BackboneEntry:
    """A known or cached backbone. ``digest`` and ``license`` are empty if featx does not know them."""

    name: str
    cached: bool
    digest: str
    preprocessing: str
    license: str
    path: str


def load_backbone(
    name: str = "oxford", file: str | Path | None = None, preprocessing: str | None = None
) -> BackboneWeights:
    """Load the weights of a backbone from a file, from the cache, or by download.

    Downloaded weights are kept in the cache, so the next call needs no network.

    Parameters
    ----------
    name : str
        Name of a known backbone (``oxford``, ``imagenet1k_v1``, ``imagenet1k_features``) or of a backbone that was
        added to the cache. With ``file``, it may be a new name.
    file : path, optional
        A weights file, see `read_weights`. If ``name`` is a known backbone, the file must have the weights of that
        backbone.
    preprocessing : str, optional
        A key of ``featx.backbones.PREPROCESSINGS``. By default, a known backbone has its own preprocessing, and any
        other backbone has ``oxford``.

    Returns
    -------
    BackboneWeights

    Raises
    ------
    WeightsNotFound
        If no source has the backbone. The message lists the sources, why each failed, and what to do.
    WeightsMismatch
        If the file does not have the weights of the backbone ``name``. The message has both digests.
    WeightsUnreadable
        If ``file`` or the file in the cache cannot be read now: another program locks it, access is denied, or its disk
        fails.
    WeightsError
        If the file does not exist, or has no weights of VGG16 in a known format.
    SpecError
        If the name or the preprocessing is not allowed.
    """
    check_name(name)
    if preprocessing is not None:
        check_preprocessing(preprocessing)
    weights = _load(name) if file is None else _read(Path(file), name, str(file))
    logger.info("backbone %s (%.12s) from %s", weights.name, weights.digest, weights.source)
    return weights if preprocessing is None else dataclasses.replace(weights, preprocessing=preprocessing)


def add_backbone(path: str | Path, name: str | None = None, preprocessing: str | None = None) -> BackboneWeights:
    """Add a weights file to the cache. Without ``name``, the file must have the weights of a known backbone.

    It raises the same errors as `load_backbone`, and ``WeightsError`` if the cache cannot be written.
    """
    weights = load_backbone(_recognize(Path(path)) if name is None else name, path, preprocessing)
    known = BACKBONES.get(weights.name)
    if known and weights.preprocessing != known.preprocessing:
        raise WeightsError(f"--preprocessing of backbones add must be {known.preprocessing} for {known.name}, got "
                           f"{weights.preprocessing}; give the backbone another name with --name")  # fmt: skip
    write_cached(weights)
    return weights


def verify_backbone(name: str = "oxford") -> BackboneWeights:
    """Read a backbone from the cache, and check its digest. Raise ``WeightsError`` if it is missing or damaged."""
    check_name(name)
    try:
        return read_cached(name)
    except WeightsNotFound as error:
        raise WeightsNotFound(f"the backbone {name} is not in the cache: {error}; {_remedy(name)}") from None
    except WeightsUnreadable:
        raise
    except WeightsError as error:
        raise type(error)(f"{error}; {_remedy(name)}") from error


def list_backbones() -> list[BackboneEntry]:
    """List the known backbones and the backbones in the cache, without reading weights."""
    return [_entry(name) for name in _names()]


def _load(name: str) -> BackboneWeights:
    reasons = []
    try:
        return read_cached(name)
    except WeightsNotFound as error:
        reasons.append(f"the cache: {error}")
    except WeightsUnreadable as error:
        # The file may be intact, so no download replaces it.
        raise WeightsUnreadable(f"{error}; or set FEATX_CACHE to another folder") from error
    except WeightsError as error:
        if name not in BACKBONES:
            raise type(error)(f"{error}; {_remedy(name)}") from error
        warnings.warn(f"{error}; downloading it again", RuntimeWarning, stacklevel=3)
        reasons.append(f"the cache: {error}")
    if name not in BACKBONES:
        raise _unknown(name)
    return _fetch(BACKBONES[name], reasons)


def _fetch(backbone: KnownBackbone, reasons: list[str]) -> BackboneWeights:
    if backbone.url.endswith(".pth"):  # only torch can read the file: check before the download
        import_optional("torch", "torch", f"the backbone {backbone.name}, which is published as a torch checkpoint,")
    for source, fetch in sources_of(backbone):
        try:
            with TemporaryDirectory(prefix="featx-") as folder:
                weights = _read(fetch(Path(folder)), backbone.name, source)
        except WeightsError as error:
            reasons.append(f"{source}: {error}")
        else:
            _keep(weights)
            return weights
    tried = "".join(f"\n- {reason}" for reason in reasons)
    raise WeightsNotFound(
        f"no source has the weights of the backbone {backbone.name}:{tried}\n"
        f"Copy {backbone.url} here from a machine that can reach it, and type: featx backbones add FILE"
    )


def _keep(weights: BackboneWeights) -> None:
    try:
        write_cached(weights)
    except WeightsError as error:
        warnings.warn(f"{error}; {weights.name} will be downloaded again next time", RuntimeWarning, stacklevel=5)


def _read(file: Path, name: str, source: str) -> BackboneWeights:
    tensors = read_weights(file)
    digest = backbone_digest(tensors)
    if name not in BACKBONES:
        return BackboneWeights(name, digest, DEFAULT_PREPROCESSING, source, tensors)
    BACKBONES[name].check(digest, file, source)
    return BackboneWeights(name, digest, BACKBONES[name].preprocessing, source, tensors)


def _recognize(path: Path) -> str:
    """Return the name of the known backbone whose weights are in a file."""
    digest = backbone_digest(read_weights(path))
    for backbone in BACKBONES.values():
        try:
            backbone.check(digest, path, str(path))
        except WeightsMismatch:
            continue
        return backbone.name
    known = "; ".join(
        f"{name} {backbone.digest}" if backbone.digest else f"{name} the file {backbone.url.rpartition('/')[2]}"
        for name, backbone in BACKBONES.items()
    )
    raise WeightsMismatch(
        f"{path} has the weights of no known backbone: the sha256 of its weights is {digest}; known are {known}; "
        "to add these weights, give them a name: --name NAME"
    )


def _entry(name: str) -> BackboneEntry:
    cached, backbone = name in cached_names(), BACKBONES.get(name)
    metadata = read_metadata(name) if cached else {}
    return BackboneEntry(
        name=name,
        cached=cached,
        digest=(backbone.digest if backbone else "") or metadata.get("digest", ""),
        preprocessing=metadata.get("preprocessing") or (backbone.preprocessing if backbone else ""),
        license=backbone.license if backbone else "",
        path=str(cached_file(name)),
    )


def _names() -> list[str]:
    return [*BACKBONES, *(name for name in cached_names() if name not in BACKBONES)]


def _remedy(name: str) -> str:
    return f"type: featx backbones get {name}" if name in BACKBONES else f"type: featx backbones add FILE --name {name}"


def _unknown(name: str) -> WeightsNotFound:
    near = difflib.get_close_matches(name, _names(), 1)
    guess = f", did you mean {near[0]}?" if near else ""
    return WeightsNotFound(
        f"name of a backbone must be one of {', '.join(_names())}, got {name}{guess}; "
        f"to use your own weights, type: featx backbones add FILE --name {name}"
    )
