"""Bringing a store up to date: what of it still holds, and the rows that it shall have."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import h5py
import numpy as np

from featx.images import Listing
from featx.images.loading import file_digest
from featx.spec import ExtractSpec
from featx.store import PartFolder, RowTable, Store, layout


@dataclass(frozen=True)
class Row:
    """What is known of a row without any feature: the names of its classes, and its split values."""

    labels: tuple[str, ...]
    splits: Mapping[str, str]


@dataclass(frozen=True)
class OldStore:
    """The store that was there: digests and rows by path, and its golden features. Empty if there was none."""

    digests: Mapping[str, str] = field(default_factory=dict)
    rows: Mapping[str, Row] = field(default_factory=dict)
    golden: Mapping[str, np.ndarray] = field(default_factory=dict)
    failures: Sequence[tuple[str, str]] = ()

    @classmethod
    def read(cls, path: Path, spec: ExtractSpec) -> "OldStore":
        """Read a store of the same spec; ``SpecMismatch`` if it holds another, ``StoreError`` if it is none."""
        with Store(path) as store:
            store.spec.check_same(
                spec,
                this=str(path),
                that="this extraction",
                remedy="extract with the same options, give --overwrite to start anew, or another --output",
            )
            paths, classes, splits = store.paths, store.classes, store.splits
            codes, indicator = store.labels.tolist(), store.indicator
            sets = None if indicator is None else [np.flatnonzero(row).tolist() for row in indicator]
            labels = _names(classes, codes, sets)
            rows = {
                path: Row(label, {name: values[row] for name, values in splits.items()})
                for row, (path, label) in enumerate(zip(paths, labels, strict=True))
            }
            return cls(dict(zip(paths, store.digests, strict=True)), rows, store.golden, store.failures)


def listed_rows(listing: Listing) -> dict[str, Row]:
    """The rows that a listing asks for, by path, in its order."""
    labels = _names(listing.classes, listing.labels.tolist(), listing.label_sets)
    return {
        path: Row(label, {name: values[row] for name, values in listing.splits.items()})
        for row, (path, label) in enumerate(zip(listing.paths, labels, strict=True))
    }


def _names(classes: Sequence[str], codes: Sequence[int], sets: Sequence[Sequence[int]] | None) -> list[tuple[str, ...]]:
    """The names of each row's classes, from its one code, -1 for none, or from all where rows have several."""
    if sets is None:
        return [(classes[code],) if code >= 0 else () for code in codes]
    return [tuple(classes[code] for code in row) for row in sets]


def still_valid(known: Mapping[str, str], paths: Sequence[str], root: Path, workers: int) -> dict[str, str]:
    """Digests of those of ``paths`` whose file still has the digest that is known of it."""

    def unchanged(path: str) -> bool:
        try:
            return file_digest(root / path) == known[path]
        except OSError:
            return False

    candidates = [path for path in paths if path in known]
    with ThreadPoolExecutor(workers) as pool:
        return {
            path: known[path] for path, same in zip(candidates, pool.map(unchanged, candidates), strict=True) if same
        }


def read_parts(folder: PartFolder) -> tuple[dict[str, str], list[tuple[str, str]]]:
    """Digests by path, and the failures, of all finished parts."""
    digests: dict[str, str] = {}
    failures: list[tuple[str, str]] = []
    for path in folder.part_files():
        with h5py.File(path) as file:
            rows = file["rows"]
            digests.update(zip(layout.read_strings(rows["path"]), layout.read_strings(rows["digest"]), strict=True))
            failures += layout.read_failures(file)
    return digests, failures


def row_table(
    rows: Mapping[str, Row], digests: Mapping[str, str], failures: Sequence[tuple[str, str]], views: int = 1
) -> RowTable:
    """The table of those rows that have a digest, and so features, ``views`` times; the order of ``rows`` is kept."""
    paths = [path for path in rows if path in digests for _ in range(views)]
    kept = [rows[path] for path in paths]
    classes = sorted({name for row in kept for name in row.labels})
    code_of = {name: code for code, name in enumerate(classes)}
    sets = [sorted(code_of[name] for name in row.labels) for row in kept]
    columns = sorted({name for row in kept for name in row.splits})
    return RowTable(
        paths=paths,
        digests=[digests[path] for path in paths],
        labels=np.array([row[0] if row else -1 for row in sets], int),
        classes=classes,
        splits={name: [row.splits.get(name, "") for row in kept] for name in columns},
        failures=sorted(failures),
        label_sets=sets if any(len(row) > 1 for row in sets) else None,
        views=views,
    )
