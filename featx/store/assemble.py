"""From part files, and the store that was there, to the final store."""

import shutil
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import h5py
import numpy as np

from featx.errors import SpecError, StoreError
from featx.hdf5 import EXPANSION, allow_open, open_contained
from featx.packages import installed
from featx.rows import Rows, code_labels
from featx.spec import ExtractSpec
from featx.store import layout, virtual
from featx.store.writing import writing
from featx.texts import Texts

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
    splits: Mapping[str, Sequence[str]]
    failures: Sequence[tuple[str, str]]
    label_sets: Sequence[Sequence[int]] | None = None
    views: int = 1

    @classmethod
    def of(cls, rows: Rows, digests: np.ndarray, failures: Iterable[tuple[str, str]], views: int = 1) -> "RowTable":
        """The table of those images that have a digest (``S64``, ``b""`` for none), each ``views`` times."""
        kept = np.repeat(np.flatnonzero(digests), views)
        rows, labels = rows.take(kept), code_labels(rows.labels.take(kept))
        return cls(
            paths=rows.paths,
            digests=Texts.of_bytes(digests[kept].tolist()),
            labels=labels.codes,
            classes=labels.classes,
            splits=dict(sorted(rows.splits.items())),
            failures=sorted(failures),
            label_sets=labels.sets,
            views=views,
        )

    @property
    def view(self) -> np.ndarray:
        """int32 (rows,): which view of its image a row is, 0 for the plain one."""
        return np.arange(len(self.paths), dtype="i4") % self.views


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
    check_storage(how, dtype)
    if how == "virtual":
        sources = virtual.adopt(target, sources)
    else:
        itemsize = 2 if dtype == "float16" else 4
        _check_room(target, layout.feature_bytes(spec.widths, len(table.paths), itemsize, 1 / EXPANSION))
    allow_open(2 * len(sources))
    try:
        with ExitStack() as stack:
            files = [stack.enter_context(open_contained(path, StoreError)) for path in sources]
            store = stack.enter_context(writing(target, scratch))
            store.attrs["schema"] = 1 if table.label_sets is None else 2
            layout.write_versions(store, installed(*DECIDING))
            layout.write_identity(store, spec, golden)
            _write_table(store, table)
            _gather(store, table, spec, files, target.parent if how == "virtual" else None, dtype)
            used = virtual.referred(store)
    except layout.DAMAGE as error:
        raise StoreError(f"{target} cannot be assembled: {error}") from error
    virtual.tidy(target, used)


def check_storage(how: str | None, dtype: str | None) -> None:
    """Raise ``SpecError`` for what `assemble` does not know, None being for its own choice."""
    if how not in (None, *ASSEMBLIES):
        raise SpecError(f"--assemble must be one of {', '.join(ASSEMBLIES)}, got {how!r}")
    if dtype not in (None, *DTYPES):
        raise SpecError(f"--store-dtype must be one of {', '.join(DTYPES)}, got {dtype!r}")
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
    layout.write_column(rows, "view", table.view)
    layout.write_strings(store, "classes", table.classes)
    for column, values in table.splits.items():
        layout.write_strings(store.require_group("splits"), column, values)
    layout.write_failures(store, table.failures)


def _find(table: RowTable, files: Sequence[h5py.File]) -> tuple[np.ndarray, np.ndarray]:
    """Which file has each row of the table, and at which of its rows."""
    keys = zip(table.paths, table.digests, table.view.tolist(), strict=True)
    row_of = {row: number for number, row in enumerate(keys)}
    source, source_row = np.full(len(row_of), -1), np.zeros(len(row_of), int)
    for number, file in enumerate(files):
        paths, digests = (layout.read_strings(file[f"rows/{column}"]) for column in ("path", "digest"))
        for position, row in enumerate(zip(paths, digests, layout.read_views(file), strict=True)):
            if row in row_of:
                source[row_of[row]], source_row[row_of[row]] = number, position
    return source, source_row


def _gather(
    store: h5py.File,
    table: RowTable,
    spec: ExtractSpec,
    files: Sequence[h5py.File],
    folder: Path | None,
    dtype: str | None,
) -> None:
    """Take each row's features, and whether it was turned, from the file that has it: by reference from ``folder``."""
    source, source_row = _find(table, files)
    if lost := int((source < 0).sum()):
        raise ValueError(f"no part has {lost} of its {len(source)} rows, {table.paths[int(source.argmin())]!r} first")
    to_rows = [np.flatnonzero(source == number) for number in range(len(files))]
    used = [(file, source_row[rows], rows) for file, rows in zip(files, to_rows, strict=True) if len(rows)]
    turned = np.zeros(len(source), bool)
    for file, from_rows, rows in used:
        turned[rows] = file["rows/turned"][:][from_rows]
    layout.write_column(store["rows"], "turned", turned)
    group = store.create_group("features")
    for name, width in spec.widths.items():
        if folder and used:
            where = folder.resolve()  # files are opened by their resolved names
            runs = [(Path(file.filename).relative_to(where).as_posix(), len(file["rows/path"]), from_rows, rows)
                    for file, from_rows, rows in used]  # fmt: skip
            virtual.create_virtual(group, name, (len(source), width), runs)
            continue
        own = {file[f"features/{name}"].dtype for file, *_ in used}
        kept = np.dtype(dtype or (own.pop() if len(own) == 1 else "float32"))
        layout.write_feature(group, name, (len(source), width), partial(_copy, used), kept)


def _copy(used: Sequence[tuple[h5py.File, np.ndarray, np.ndarray]], feature: h5py.Dataset) -> None:
    """Copy the rows of a feature from each of its files: those ``from_rows`` of it to those ``rows``."""
    for file, from_rows, rows in used:
        layout.copy_rows(file[feature.name], feature, from_rows, rows)
