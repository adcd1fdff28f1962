"""From part files, and the store that was there, to the final store."""

import itertools
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from featx.errors import SpecError, StoreError
from featx.files import EXPANSION, open_untrusted
from featx.runtime import installed
from featx.spec import ExtractSpec
from featx.store import layout, virtual
from featx.store.writing import writing
from featx.table import ImageTable, StringArray, encode_labels

ASSEMBLIES = ("copy", "virtual")
DTYPES = ("float32", "float16")
DECIDING = ("numpy", "pillow", "openvino", "ncnn", "torch")
"""The packages that decide pixels and features, as far as they are there."""


@dataclass(frozen=True)
class RowTable:
    """The rows that a store shall have, in order, and what is known of them without any feature.

    ``labels`` are indices into ``classes``, -1 for none; ``splits`` hold one value a row by column name;
    ``failures`` are the images that have no row. ``label_sets`` are all labels of each row, where one has several.
    Each ``views`` rows, one after the other, are of one image.
    """

    paths: Sequence[str]
    digests: Sequence[str]
    labels: np.ndarray
    classes: Sequence[str]
    columns: Mapping[str, Sequence[str]]
    failures: Sequence[tuple[str, str]]
    label_sets: Sequence[Sequence[int]] | None = None
    n_views: int = 1

    @classmethod
    def from_images(
        cls, rows: ImageTable, digests: np.ndarray, failures: Iterable[tuple[str, str]], n_views: int = 1
    ) -> "RowTable":
        """The table of those images that have a digest (``S64``, ``b""`` for none), each ``views`` times."""
        kept = np.repeat(np.flatnonzero(digests), n_views)
        rows, labels = rows.take(kept), encode_labels(rows.labels.take(kept))
        return cls(
            paths=rows.paths,
            digests=StringArray.from_bytes(digests[kept].tolist()),
            labels=labels.codes,
            classes=labels.classes,
            columns=dict(sorted(rows.columns.items())),
            failures=sorted(failures),
            label_sets=labels.label_sets,
            n_views=n_views,
        )

    @property
    def view_index(self) -> np.ndarray:
        """int32 (rows,): which view of its image a row is, 0 for the plain one."""
        return np.arange(len(self.paths), dtype="i4") % self.n_views


def assemble(
    target: Path,
    table: RowTable,
    spec: ExtractSpec,
    golden: Mapping[str, np.ndarray],
    sources: Sequence[Path],
    scratch: Path | None = None,
    *,
    how: str = "copy",
    dtype: str | None = None,
) -> None:
    """Gather the table's rows from ``sources`` (part files or stores) into a store at ``target``.

    The store appears whole, by renaming, or not at all; what a killed process leaves half-written lies in the folder
    ``scratch``, by default beside it. A row is found by path, digest and view.

    Parameters
    ----------
    how : str
        ``copy``, or ``virtual``: the store refers to the part files, which are linked into a folder beside it.
    dtype : str, optional
        ``float32`` or ``float16``, in which features take half the room and have 11 binary digits; by default float16
        if all sources that are there have it. A virtual store has float32.

    Raises
    ------
    StoreError
        If the disk has not the room, does not take what is written, or if features are too large for float16.
    """
    check_storage(how, dtype, target)
    if how == "virtual":
        sources = virtual.adopt(target, sources)
    else:
        itemsize = 2 if dtype == "float16" else 4
        _check_room(target, layout.feature_bytes(spec.widths, len(table.paths), itemsize, 1 / EXPANSION))
    try:
        with writing(target, scratch) as store:
            store.attrs["schema"] = 1 if table.label_sets is None else 2
            layout.write_versions(store, installed(*DECIDING))
            layout.write_identity(store, spec, golden)
            _write_table(store, table)
            _gather(store, table, spec, sources, target.parent if how == "virtual" else None, dtype)
    except layout.DAMAGE as error:
        raise StoreError(f"{target} cannot be assembled: {error}") from error
    virtual.tidy(target)


def check_storage(how: str | None, dtype: str | None, target: Path | None = None) -> None:
    """Raise ``SpecError`` for what `assemble` does not know, None being for its own choice, or cannot write there."""
    if how not in (None, *ASSEMBLIES):
        raise SpecError(f"--assemble must be one of {', '.join(ASSEMBLIES)}, got {how!r}")
    if dtype not in (None, *DTYPES):
        raise SpecError(f"--store-dtype must be one of {', '.join(DTYPES)}, got {dtype!r}")
    if how == "virtual" and target and "%" in target.name:
        raise SpecError(f"--output must have no % in its name for --assemble virtual, as HDF5 takes it for a pattern, "
                        f"got {target.name}; choose another, or --assemble copy")  # fmt: skip
    if how == "virtual" and dtype == "float16":
        raise SpecError(
            "--store-dtype float16 is for --assemble copy, but got virtual, whose part files have float32; give one"
        )


def _check_room(target: Path, needed: int) -> None:
    free = shutil.disk_usage(target.parent).free
    if free < needed:
        raise StoreError(
            f"{target} needs at least {needed / 1e6:,.2f} MB and {free / 1e6:,.2f} MB are free on its disk"
        )


def _write_table(store: h5py.File, table: RowTable) -> None:
    rows = store.create_group("rows")
    layout.write_strings(rows, "path", table.paths)
    layout.write_strings(rows, "digest", table.digests)
    layout.write_column(rows, "label", table.labels.astype("i4"))
    if table.label_sets is not None:
        layout.write_indicator(rows, "labels_multi", table.label_sets, len(table.classes))
    layout.write_column(rows, "view", table.view_index)
    layout.write_strings(store, "classes", table.classes)
    for column, values in table.columns.items():
        layout.write_strings(store.require_group("splits"), column, values)
    layout.write_failures(store, table.failures)


@dataclass(frozen=True)
class _Used:
    """A file that has some of the table's rows: how many it has in all, which of them are which of the table's, and
    the types of its features."""

    path: Path
    length: int
    from_rows: np.ndarray
    to_rows: np.ndarray
    dtypes: Mapping[str, np.dtype[Any]]


def _find(table: RowTable, spec: ExtractSpec, sources: Sequence[Path]) -> tuple[list[_Used], np.ndarray]:
    """Where each row of the table is, and bool (rows,) whether its image was turned; files by their first rows.

    One file is open at a time: a run of millions of images has more parts than a process may open.
    """
    keys = zip(table.paths, table.digests, table.view_index.tolist(), strict=True)
    row_of = {row: number for number, row in enumerate(keys)}
    source, source_row = np.full(len(row_of), -1), np.zeros(len(row_of), int)
    turned, lengths, dtypes = np.zeros(len(row_of), bool), list[int](), list[dict[str, np.dtype[Any]]]()
    for number, path in enumerate(sources):
        with open_untrusted(path, StoreError) as file:
            paths, digests = (layout.read_strings(file[f"rows/{column}"]) for column in ("path", "digest"))
            keys = zip(paths, digests, layout.read_views(file), strict=True)
            found = [(position, row_of[row]) for position, row in enumerate(keys) if row in row_of]
            if found:
                from_rows, to_rows = np.array(found).T
                source[to_rows], source_row[to_rows] = number, from_rows
                turned[to_rows] = file["rows/turned"][:][from_rows]
            lengths.append(len(paths))
            dtypes.append({name: file[f"features/{name}"].dtype for name in spec.widths} if found else {})
    if lost := int((source < 0).sum()):
        raise ValueError(f"no part has {lost} of its {len(source)} rows, {table.paths[int(source.argmin())]!r} first")
    # By file, and within each by row.
    order = np.argsort(source, kind="stable")
    edges = np.searchsorted(source[order], np.arange(len(sources) + 1))
    chosen = [order[first:last] for first, last in itertools.pairwise(edges.tolist())]
    used = [_Used(path, lengths[number], source_row[rows], rows, dtypes[number])
            for number, (path, rows) in enumerate(zip(sources, chosen, strict=True)) if len(rows)]  # fmt: skip
    # The store is written from its beginning to its end, whatever the names of parts.
    return sorted(used, key=lambda each: int(each.to_rows[0])), turned


def _gather(
    store: h5py.File,
    table: RowTable,
    spec: ExtractSpec,
    sources: Sequence[Path],
    folder: Path | None,
    dtype: str | None,
) -> None:
    """Take each row's features, and whether it was turned, from the file that has it: by reference from ``folder``."""
    used, turned = _find(table, spec, sources)
    layout.write_column(store["rows"], "turned", turned)
    group, rows = store.create_group("features"), len(turned)
    if folder and used:
        where = folder.resolve()  # files are opened by their resolved names
        runs = [(each.path.resolve().relative_to(where).as_posix(), each.length, each.from_rows, each.to_rows)
                for each in used]  # fmt: skip
        for name, width in spec.widths.items():
            virtual.create_virtual(group, name, (rows, width), runs)
        return
    own = {name: {each.dtypes[name] for each in used} for name in spec.widths}
    kept = {name: np.dtype(dtype or (own[name].pop() if len(own[name]) == 1 else "float32")) for name in spec.widths}
    layout.write_features(group, rows, spec.widths, partial(_copy, used), kept)


def _copy(used: Sequence[_Used], features: layout.Features) -> None:
    """Copy the rows of features from each file that has some."""
    for each in used:
        with open_untrusted(each.path, StoreError) as file:
            for feature in features.values():
                layout.copy_rows(file[feature.name], feature, each.from_rows, each.to_rows)
