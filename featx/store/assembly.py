"""Assemble a store from part files and other stores."""

import itertools
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from featx.errors import SpecError, StoreError, StoreUnreadable
from featx.files import READ_ERRORS, create_hdf5
from featx.runtime import installed
from featx.spec import ExtractSpec
from featx.store import virtual
from featx.store.datasets import read_strings, write_column, write_features
from featx.store.disk_checks import check_disk_space, check_target, store_bytes
from featx.store.row_copy import Source, copy_features
from featx.store.row_table import RowTable
from featx.store.schema import (
    open_source,
    read_remarks,
    read_view_index,
    write_identity,
    write_remarks,
    write_versions,
)

LAYOUTS = ("copy", "virtual")
DTYPES = ("float32", "float16")
VERSIONED_PACKAGES = ("numpy", "pillow", "openvino", "ncnn", "torch")
"""Packages whose versions can change pixels or features. A store records the versions of the installed packages."""


def assemble(
    target: Path,
    table: RowTable,
    spec: ExtractSpec,
    reference: Mapping[str, np.ndarray],
    sources: Sequence[Path],
    scratch: Path | None = None,
    *,
    layout: str = "copy",
    dtype: str | None = None,
) -> None:
    """Write a store with features from part files and other stores.

    The store is written completely or not at all.

    Parameters
    ----------
    target : Path
        The store to write; an existing store is replaced.
    table : RowTable
        The rows of the store. A row is found in the sources by its path, its digest and the number of its augmented
        copy.
    spec : ExtractSpec
    reference : mapping of str to float32 (3, width)
        Features of the reference images, by feature name.
    sources : sequence of Path
        Part files and stores. If several of them hold the same row, the last one is used.
    scratch : Path, optional
        Folder of the temporary file, by default the folder of ``target``. A killed process may leave the temporary file
        in this folder.
    layout : {"copy", "virtual"}
        ``copy`` copies the features into the store. ``virtual`` links the part files into a folder beside the store,
        and the store refers to them.
    dtype : {"float32", "float16"}, optional
        Type in which features are stored. float16 halves their size and rounds to 11 binary digits. The default is
        float16 if all sources have float16, otherwise float32. A virtual store has float32.

    Raises
    ------
    SpecError
        If ``layout`` or ``dtype`` is unknown, or the two cannot be combined.
    StoreUnreadable
        If ``target`` or a source is locked by another program, or a source cannot be read now.
    StoreError
        If the disk is full, the store cannot be written, or a feature is too large for float16.
    """
    check_assembly(layout, dtype, target)
    check_target(target)
    if layout == "virtual":
        sources = virtual.link_parts(target, sources)
    else:
        check_disk_space(target, store_bytes(spec, len(table.paths), dtype))
    try:
        with create_hdf5(target, scratch) as store:
            store.attrs["schema"] = 1 if table.label_sets is None else 2
            write_versions(store, installed(*VERSIONED_PACKAGES))
            write_identity(store, spec, reference)
            table.write(store)
            _write_features(store, table, spec, sources, target.parent if layout == "virtual" else None, dtype)
    except StoreUnreadable as error:
        raise type(error)(f"{target} cannot be assembled: {error}") from error
    except READ_ERRORS as error:
        reason = getattr(error, "strerror", None) or error
        raise StoreError(f"{target} cannot be assembled: {reason}") from error
    virtual.remove_unused_parts(target)


def check_assembly(layout: str | None, dtype: str | None, target: Path | None = None) -> None:
    """Check the options of `assemble`. None means the default of an option.

    Raises
    ------
    SpecError
        If an option is unknown, or cannot be combined with the other option or with the name of ``target``.
    """
    if layout not in (None, *LAYOUTS):
        raise SpecError(f"--assemble must be one of {', '.join(LAYOUTS)}, got {layout!r}")
    if dtype not in (None, *DTYPES):
        raise SpecError(f"--store-dtype must be one of {', '.join(DTYPES)}, got {dtype!r}")
    if layout == "virtual" and target and "%" in target.name:
        raise SpecError(
            f"--output must have no % in its name for --assemble virtual, because HDF5 reads it as a pattern, "
            f"got {target.name}; choose another name, or --assemble copy"
        )
    if layout == "virtual" and dtype == "float16":
        raise SpecError(
            "--store-dtype float16 needs --assemble copy, got --assemble virtual, whose part files are float32; "
            "leave one of them out"
        )


def _find_rows(
    table: RowTable, spec: ExtractSpec, sources: Sequence[Path]
) -> tuple[list[Source], np.ndarray, np.ndarray]:
    """Find each row of the table in the sources.

    Returns
    -------
    list of Source
        The sources that are needed, sorted by the first row of the table that each source holds.
    bool (rows,)
        Whether an EXIF orientation was applied to each row's image.
    uint8 (rows,)
        The remarks on each row's image.
    """
    keys = zip(table.paths, table.digests, table.view_index.tolist(), strict=True)
    row_of = {key: row for row, key in enumerate(keys)}
    source, source_row = np.full(len(row_of), -1), np.zeros(len(row_of), int)
    rotated, remarks = np.zeros(len(row_of), bool), np.zeros(len(row_of), "u1")
    lengths, dtypes = list[int](), list[dict[str, np.dtype[Any]]]()
    # Open one file at a time, because an extraction of millions of images has more parts than a process may have open.
    for number, path in enumerate(sources):
        with open_source(path) as file:
            paths, digests = (read_strings(file[f"rows/{column}"]) for column in ("path", "digest"))
            keys = zip(paths, digests, read_view_index(file).tolist(), strict=True)
            found = [(position, row_of[key]) for position, key in enumerate(keys) if key in row_of]
            if found:
                from_rows, to_rows = np.array(found).T
                source[to_rows], source_row[to_rows] = number, from_rows
                rotated[to_rows] = file["rows/turned"][:][from_rows]
                remarks[to_rows] = read_remarks(file)[from_rows]
            lengths.append(len(paths))
            dtypes.append({name: file[f"features/{name}"].dtype for name in spec.widths} if found else {})
    if missing := int((source < 0).sum()):
        raise ValueError(
            f"{missing} of {len(source)} rows are in no part, the first of them {table.paths[int(source.argmin())]!r}"
        )
    # Group the rows by source. The rows of each source stay in the order of the table.
    order = np.argsort(source, kind="stable")
    edges = np.searchsorted(source[order], np.arange(len(sources) + 1))
    rows_of = [order[first:last] for first, last in itertools.pairwise(edges.tolist())]
    used = [
        Source(path, lengths[number], source_row[rows], rows, dtypes[number])
        for number, (path, rows) in enumerate(zip(sources, rows_of, strict=True))
        if len(rows)
    ]
    # With this order, the store is written from beginning to end. The order does not depend on the names of the parts.
    return sorted(used, key=lambda each: int(each.to_rows[0])), rotated, remarks


def _write_features(
    store: h5py.File,
    table: RowTable,
    spec: ExtractSpec,
    sources: Sequence[Path],
    folder: Path | None,
    dtype: str | None,
) -> None:
    """Write the features of all rows to a store.

    If ``folder`` is given, the store refers to the sources, and the features are not copied. ``folder`` must be the
    folder of the store.
    """
    used, rotated, remarks = _find_rows(table, spec, sources)
    write_column(store["rows"], "turned", rotated)
    write_remarks(store["rows"], remarks)
    group, rows = store.create_group("features"), len(rotated)
    if folder and used:
        base = folder.resolve()  # HDF5 opens files by their resolved names.
        references = [
            (each.path.resolve().relative_to(base).as_posix(), each.length, each.from_rows, each.to_rows)
            for each in used
        ]
        for name, width in spec.widths.items():
            virtual.create_virtual(group, name, (rows, width), references)
        return
    found = {name: {each.dtypes[name] for each in used} for name in spec.widths}
    dtypes = {
        name: np.dtype(dtype or (found[name].pop() if len(found[name]) == 1 else "float32")) for name in spec.widths
    }
    write_features(group, rows, spec.widths, partial(copy_features, used), dtypes)
