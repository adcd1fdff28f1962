"""From part files, and the store that was there, to the final store."""

import shutil
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from featx.errors import StoreError
from featx.hdf5 import open_contained
from featx.rows import Rows, code_labels
from featx.spec import ExtractSpec
from featx.store import layout
from featx.store.writing import writing
from featx.texts import Texts
from featx.version import __version__


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
) -> None:
    """Gather the table's rows from ``sources`` (part files or stores) into a store at ``target``.

    The store appears whole, by renaming, or not at all; what a killed process leaves half-written lies in the folder
    ``scratch``, by default beside it. A row is found by path, digest and view.

    Raises
    ------
    StoreError
        If the disk has not the room, or does not take what is written.
    """
    _check_room(target, len(table.paths) * 4 * spec.width)
    try:
        with ExitStack() as stack:
            files = [stack.enter_context(open_contained(path, StoreError)) for path in sources]
            store = stack.enter_context(writing(target, scratch))
            store.attrs["schema"] = 1 if table.label_sets is None else 2
            store.attrs["featx"] = __version__
            layout.write_identity(store, spec, golden)
            _write_table(store, table)
            _copy(store, table, spec, files)
    except layout.DAMAGE as error:
        raise StoreError(f"{target} cannot be assembled: {error}") from error


def _check_room(target: Path, needed: int) -> None:
    free = shutil.disk_usage(target.parent).free
    if free < needed:
        raise StoreError(f"{target} needs {needed / 1e6:,.0f} MB and {free / 1e6:,.0f} MB are free on its disk")


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


def _copy(store: h5py.File, table: RowTable, spec: ExtractSpec, files: Sequence[h5py.File]) -> None:
    """Copy each row's features, and whether it was turned, from the file that has it."""
    rows = len(table.paths)
    source, source_row = _find(table, files)
    group = store.create_group("features")
    features = {name: layout.create_feature(group, name, rows, width) for name, width in spec.widths.items()}
    turned = np.zeros(rows, bool)
    for number, file in enumerate(files):
        to_rows = np.flatnonzero(source == number)
        if not len(to_rows):
            continue
        turned[to_rows] = file["rows/turned"][:][source_row[to_rows]]
        for name, target in features.items():
            layout.copy_rows(file[f"features/{name}"], target, source_row[to_rows], to_rows)
    layout.write_column(store["rows"], "turned", turned)
