"""Trunks by name: from a file, from the cache, or from where they are published."""

import dataclasses
import difflib
import warnings
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from featx.errors import WeightsError, WeightsMismatch, WeightsNotFound
from featx.weights.cache import cached_file, cached_names, read_cached, read_metadata, write_cached
from featx.weights.digest import trunk_digest
from featx.weights.readers import read_weights
from featx.weights.sources import sources_of
from featx.weights.trunks import TRUNKS, Trunk, TrunkWeights, check_name, check_preprocessing

DEFAULT_PREPROCESSING = "oxford"


@dataclass(frozen=True)
class TrunkEntry:
    """One line of the list of trunks; ``digest`` and ``license`` are empty where featx does not know them."""

    name: str
    cached: bool
    digest: str
    preprocessing: str
    license: str
    path: str


def load_trunk(name: str = "oxford", file: str | Path | None = None, preprocessing: str | None = None) -> TrunkWeights:
    """VGG16's trunk by name, from ``file`` or else from the cache or the trunk's own sources.

    What is fetched is kept in the cache, so that the next call needs no network.

    Parameters
    ----------
    name : str
        A known trunk (``oxford``, ``imagenet1k_v1``, ``imagenet1k_features``), one that was added to the cache, or,
        with ``file``, any name of one's own.
    file : path, optional
        A weights file (see `read_weights`). It must hold the trunk's own weights if the name is a known one.
    preprocessing : str, optional
        A key of ``featx.spec.PREPROCESSINGS``; by default the trunk's own, and ``oxford`` for a file.

    Raises
    ------
    WeightsNotFound
        If no source gave the trunk: the message lists each, why it failed, and what to do.
    WeightsMismatch
        If the file holds other weights than the name says, with both digests.
    WeightsError
        If the file cannot be read.
    SpecError
        If the name or the preprocessing is not possible.
    """
    check_name(name)
    if preprocessing is not None:
        check_preprocessing(preprocessing)
    weights = _load(name) if file is None else _read(Path(file), name, str(file))
    return weights if preprocessing is None else dataclasses.replace(weights, preprocessing=preprocessing)


def add_file(path: str | Path, name: str | None = None, preprocessing: str | None = None) -> TrunkWeights:
    """Put a weights file into the cache; without a name, its content must be a known trunk's.

    Raises as `load_trunk` does, and ``WeightsError`` if the cache cannot be written.
    """
    weights = load_trunk(_recognize(Path(path)) if name is None else name, path, preprocessing)
    known = TRUNKS.get(weights.name)
    if known and weights.preprocessing != known.preprocessing:
        raise WeightsError(f"--preprocessing of weights add must be {known.preprocessing} for {known.name}, got "
                           f"{weights.preprocessing}; give the trunk another name with --name")  # fmt: skip
    write_cached(weights)
    return weights


def verify(name: str = "oxford") -> TrunkWeights:
    """Read a trunk from the cache and check it; ``WeightsError`` if it is not there or damaged."""
    check_name(name)
    try:
        return read_cached(name)
    except WeightsNotFound as error:
        raise WeightsNotFound(f"the cache does not have the trunk {name}: {error}; {_remedy(name)}") from None
    except WeightsError as error:
        raise type(error)(f"{error}; {_remedy(name)}") from error


def list_trunks() -> list[TrunkEntry]:
    """The known trunks and those in the cache; no weights are read."""
    return [_entry(name) for name in _names()]


def _load(name: str) -> TrunkWeights:
    reasons = []
    try:
        return read_cached(name)
    except WeightsNotFound as error:
        reasons.append(f"the cache: {error}")
    except WeightsError as error:
        if name not in TRUNKS:
            raise type(error)(f"{error}; {_remedy(name)}") from error
        warnings.warn(f"{error}; fetching it anew", RuntimeWarning, stacklevel=3)
        reasons.append(f"the cache: {error}")
    if name not in TRUNKS:
        raise _unknown(name)
    return _fetch(TRUNKS[name], reasons)


def _fetch(trunk: Trunk, reasons: list[str]) -> TrunkWeights:
    for source, fetch in sources_of(trunk):
        try:
            with TemporaryDirectory(prefix="featx-") as folder:
                weights = _read(fetch(Path(folder)), trunk.name, source)
        except WeightsError as error:
            reasons.append(f"{source}: {error}")
        else:
            _keep(weights)
            return weights
    tried = "".join(f"\n- {reason}" for reason in reasons)
    raise WeightsNotFound(
        f"no source gave the weights of the trunk {trunk.name}:{tried}\n"
        f"Copy {trunk.url} here from a machine that can reach it, and type: featx weights add FILE"
    )


def _keep(weights: TrunkWeights) -> None:
    try:
        write_cached(weights)
    except WeightsError as error:
        warnings.warn(f"{error}; {weights.name} will be fetched again next time", RuntimeWarning, stacklevel=5)


def _read(file: Path, name: str, source: str) -> TrunkWeights:
    tensors = read_weights(file)
    digest = trunk_digest(tensors)
    if name not in TRUNKS:
        return TrunkWeights(name, digest, DEFAULT_PREPROCESSING, source, tensors)
    TRUNKS[name].check(digest, file, source)
    return TrunkWeights(name, digest, TRUNKS[name].preprocessing, source, tensors)


def _recognize(path: Path) -> str:
    """The name of the known trunk that a file holds."""
    digest = trunk_digest(read_weights(path))
    for trunk in TRUNKS.values():
        try:
            trunk.check(digest, path, str(path))
        except WeightsMismatch:
            continue
        return trunk.name
    known = "; ".join(
        f"{name} {trunk.digest}" if trunk.digest else f"{name} the file {trunk.url.rpartition('/')[2]}"
        for name, trunk in TRUNKS.items()
    )
    raise WeightsMismatch(
        f"{path} is none of the known trunks: the sha256 of its weights is {digest}; known are {known}; "
        "to add it all the same, give it a name of its own: --name NAME"
    )


def _entry(name: str) -> TrunkEntry:
    cached, trunk = name in cached_names(), TRUNKS.get(name)
    noted = read_metadata(name) if cached else {}
    return TrunkEntry(
        name=name,
        cached=cached,
        digest=(trunk.digest if trunk else "") or noted.get("digest", ""),
        preprocessing=noted.get("preprocessing") or (trunk.preprocessing if trunk else ""),
        license=trunk.license if trunk else "",
        path=str(cached_file(name)),
    )


def _names() -> list[str]:
    return [*TRUNKS, *(name for name in cached_names() if name not in TRUNKS)]


def _remedy(name: str) -> str:
    return f"type: featx weights get {name}" if name in TRUNKS else f"type: featx weights add FILE --name {name}"


def _unknown(name: str) -> WeightsNotFound:
    near = difflib.get_close_matches(name, _names(), 1)
    guess = f", did you mean {near[0]}?" if near else ""
    return WeightsNotFound(
        f"name of a trunk must be one of {', '.join(_names())}, got {name}{guess}; "
        f"to use weights of your own, type: featx weights add FILE --name {name}"
    )
