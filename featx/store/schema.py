"""Define the layout of stores and part files in HDF5, and read and write their common parts.

- ``/features/<name>``: float32 or float16 (rows, width), or a virtual dataset (`featx.store.virtual`).
- ``/rows/path``, ``/rows/digest``: the image file, and the sha256 of this file as hex.
- ``/rows/label``: index into ``/classes``. A row without a label has -1. A row of a multi-label image has the index of
  the first label.
- ``/rows/labels_multi``: all labels of each row, bool (rows, classes). It exists only if an image has several labels.
- ``/rows/view``: number of the augmented copy; 0 stands for the plain image. The rows of an image are adjacent and
  sorted by this number.
- ``/rows/turned``: whether the image was rotated or mirrored because of its EXIF orientation.
- ``/rows/remarks``: bits of `featx.images.PixelRemark`. It exists only if an image has a remark.
- ``/classes``: sorted class names.
- ``/splits/<column>``: split and weight columns, one string per row.
- ``/failures/path``, ``/failures/reason``: images without features.
- ``/golden/<name>``: features of the three reference images.
- Attributes ``schema``, ``spec``, ``featx`` and ``versions``.
- Attribute ``listing``: how the source of the images was read, as JSON. Stores of older versions do not have it.

A part file has only features, rows and failures. Labels, classes and columns are added when the store is assembled.
"""

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from featx.errors import StoreCorrupt, StoreError
from featx.files import open_untrusted, wrap_read_errors
from featx.spec import ExtractSpec
from featx.store.datasets import FEATURE_DTYPES, read_strings, write_column, write_feature_arrays, write_strings

SCHEMA = 2
"""The latest schema. Schema 2 adds ``/rows/labels_multi``; a store without it is still written as schema 1."""
LISTING_BYTES = 1 << 15
"""Largest size of the attribute ``listing``. HDF5 refuses attributes of 64 KiB and more."""
LISTING_CUT = {"kind": "hint", "text": "the notes on the source are too long for the store", "count": 0}
REFERENCE_IMAGES = 3
"""Number of reference images. Their features show whether two machines compute the same."""
_KINDS = {"path": "S", "digest": "S", "label": "i", "view": "i", "turned": "b", "remarks": "u"}
"""The ``dtype.kind`` of each column in ``/rows``."""
_OPTIONAL = ("remarks",)
"""Columns that may be missing in a file."""


def source_errors(path: Path) -> AbstractContextManager[None]:
    """Raise the errors of `open_source` in a ``with`` block that reads a part file or a store."""

    def damaged(error: Exception) -> StoreCorrupt:
        return StoreCorrupt(f"{path} is damaged ({error})")

    return wrap_read_errors(path, StoreError, damaged)


@contextmanager
def open_source(path: Path) -> Iterator[h5py.File]:
    """Open a part file or a store in a ``with`` block, to read rows from it.

    Raises
    ------
    StoreUnreadable
        If the file cannot be read now. It is ``StoreLocked`` if another program has locked the file.
    StoreCorrupt
        If the file is damaged.
    StoreError
        If reading the file is not safe.
    """
    with source_errors(path), open_untrusted(path, StoreError) as file:
        yield file


def check_columns(file: h5py.File, optional: Collection[str] = ()) -> None:
    """Raise ``ValueError`` if a column has a wrong length or type. The values of the columns are not read.

    Parameters
    ----------
    file : h5py.File
    optional : collection of str
        Names of columns in ``/rows`` that may be missing.
    """
    rows = file["rows"]
    count = len(rows["path"])
    for name in ("path", "reason"):
        _check_column(file[f"failures/{name}"], "S", len(file["failures/path"]))
    for name, kind in _KINDS.items():
        if name in rows or name not in (*optional, *_OPTIONAL):
            _check_column(rows[name], kind, count)
    for column in file.get("splits", {}).values():
        _check_column(column, "S", count)
    for feature in file.get("features", {}).values():
        if feature.dtype not in FEATURE_DTYPES or feature.ndim != 2 or len(feature) != count:
            raise ValueError(
                f"{feature.name} must be float32 or float16 ({count}, columns), got {feature.dtype} {feature.shape}"
            )


def _check_column(column: h5py.Dataset, kind: str, count: int) -> None:
    if (column.dtype.kind, column.shape) != (kind, (count,)):
        raise ValueError(
            f"{column.name} must have one value per row, {count}, of kind {kind}, got {column.dtype} {column.shape}"
        )


def read_view_index(file: h5py.File) -> np.ndarray:
    """Read the number of each row's augmented copy, int (rows,).

    Part files of older versions do not have this column; all of their rows are plain images.
    """
    rows = file["rows"]
    view_index: np.ndarray = rows["view"][:] if "view" in rows else np.zeros(len(rows["path"]), "i4")
    return view_index


def write_remarks(rows: h5py.Group, remarks: np.ndarray) -> None:
    """Write the remarks on the image of each row, uint8 (rows,), if there are any."""
    if remarks.any():
        write_column(rows, "remarks", remarks)


def read_remarks(file: h5py.File) -> np.ndarray:
    """Read the remarks on the image of each row, uint8 (rows,); 0 stands for none."""
    rows = file["rows"]
    remarks: np.ndarray = rows["remarks"][:].astype("u1") if "remarks" in rows else np.zeros(len(rows["path"]), "u1")
    return remarks


def write_failures(file: h5py.File, failures: Sequence[tuple[str, str]]) -> None:
    """Write the path of each image that failed, and the reason."""
    group = file.create_group("failures")
    write_strings(group, "path", [path for path, _ in failures])
    write_strings(group, "reason", [reason for _, reason in failures])


def read_failures(file: h5py.File) -> list[tuple[str, str]]:
    """Read the path of each image that failed, and the reason."""
    group = file["failures"]
    return list(zip(read_strings(group["path"]), read_strings(group["reason"]), strict=True))


def write_identity(file: h5py.File, spec: ExtractSpec, reference: Mapping[str, np.ndarray]) -> None:
    """Write the spec and the features of the reference images, which together show how features were computed.

    Each feature in ``reference`` is an array float32 (3, width).
    """
    _write_text(file, "spec", spec.to_json())
    write_feature_arrays(file.require_group("golden"), reference)


def read_identity(file: h5py.File) -> tuple[ExtractSpec, dict[str, np.ndarray]]:
    """Read the spec and the features of the reference images; raise ``ValueError`` if they do not fit together."""
    spec = read_spec(file)
    shapes = {name: f"{dataset.dtype} {dataset.shape}" for name, dataset in file["golden"].items()}
    expected = {name: f"float32 ({REFERENCE_IMAGES}, {width})" for name, width in spec.widths.items()}
    if shapes != expected:
        raise ValueError(f"features of the reference images must be {expected}, got {shapes}")
    return spec, {name: file[f"golden/{name}"][:] for name in shapes}


def read_spec(file: h5py.File) -> ExtractSpec:
    """Read the spec of a store or of an unfinished run."""
    return ExtractSpec.from_json(_read_text(file, "spec"))


def write_versions(file: h5py.File, versions: Mapping[str, str]) -> None:
    """Write the versions of featx and of the packages that can change features."""
    _write_text(file, "featx", versions["featx"])
    _write_text(file, "versions", json.dumps(versions))


def read_versions(file: h5py.File) -> dict[str, str]:
    """Read the versions of the packages that made the store. Older stores have only the version of featx."""
    found = json.loads(_read_text(file, "versions")) if "versions" in file.attrs else {}
    return {**{str(name): str(number) for name, number in found.items()}, "featx": _read_text(file, "featx")}


def write_listing(file: h5py.File, listing: Mapping[str, Any]) -> None:
    """Write how the source was read. `check_listing` describes ``listing``; if it is empty, nothing is written."""
    if not listing:
        return
    check_listing(listing)
    text = json.dumps(listing)
    if len(text) > LISTING_BYTES:
        text = json.dumps({**listing, "columns": {}, "notes": [LISTING_CUT]})
    _write_text(file, "listing", text)


def read_listing(file: h5py.File) -> dict[str, Any]:
    """Read how the source was read; ``{}`` if it is not known."""
    if "listing" not in file.attrs:
        return {}
    listing: dict[str, Any] = json.loads(_read_text(file, "listing"))
    check_listing(listing)
    return listing


def check_listing(listing: Mapping[str, Any]) -> None:
    """Raise ``ValueError`` unless a mapping says how a source was read.

    It must have three keys. ``layout`` is a text. ``columns`` maps names of columns to their names in the source.
    ``notes`` is a list of mappings with the texts ``kind`` and ``text`` and the number ``count``.
    """
    layout, columns, notes = (listing[name] for name in ("layout", "columns", "notes"))
    texts = [layout, *columns, *columns.values(), *(note[name] for note in notes for name in ("kind", "text"))]
    if not all(isinstance(text, str) for text in texts) or not all(isinstance(note["count"], int) for note in notes):
        raise ValueError(f"the listing must have a layout, columns and notes, got {str(listing)[:200]}")


def _write_text(file: h5py.File, name: str, text: str) -> None:
    # The header of the object holds texts of fixed length, so the checksum of the header protects them.
    data = text.encode()
    file.attrs.create(name, np.array(data, dtype=h5py.string_dtype("utf-8", len(data))))


def _read_text(file: h5py.File, name: str) -> str:
    """Read a text attribute of fixed length, or of variable length as in files of older versions."""
    value = file.attrs[name]
    return value.decode() if isinstance(value, bytes) else str(value)
