"""Read a store. Its spec is read when the store is opened; rows and features are read when they are accessed."""

from collections.abc import Iterable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from featx.errors import DataError, StoreCorrupt, StoreError
from featx.files import READ_ERRORS, check_attribute_heaps, check_readable, open_untrusted, wrap_read_errors
from featx.runtime import html_table, pluralize
from featx.spec import ExtractSpec
from featx.store import virtual
from featx.store.datasets import read_rows, read_string_array, read_strings
from featx.store.schema import (
    SCHEMA,
    check_columns,
    read_failures,
    read_identity,
    read_listing,
    read_remarks,
    read_spec,
    read_versions,
)
from featx.table import NO_LABEL, CategoricalArray, ImageTable, decode_labels

SUFFIXES = (".h5", ".hdf5")
"""A file that cannot be read counts as a store if it has one of these suffixes."""


def is_store(path: str | Path) -> bool:
    """Return whether a path is an HDF5 file. Such a file counts as a store, and any other file as an image.

    If the file cannot be read now, its suffix decides. The caller then reads it, and gets an error that says why.
    """
    try:
        if not Path(path).is_file():
            return False
        check_readable(Path(path), StoreError)
        return bool(h5py.is_hdf5(path))
    except OSError:
        return Path(path).suffix.lower() in SUFFIXES


class Store:
    """An open store of features, which is also a context manager.

    Opening a store reads the spec, and checks the schema and the number of rows. Each property, and the method `read`,
    reads only the data that it returns.

    Parameters
    ----------
    path : str or Path
        The store's file.

    Attributes
    ----------
    path : Path
    spec : ExtractSpec
    n_rows, n_images : int
        Number of rows, and number of images. An image has ``spec.n_views`` adjacent rows; the first one is the plain
        image.
    versions : dict of str to str
        Versions of featx and of the packages that can change features, when the store was assembled.

    Raises
    ------
    StoreError
        If the file does not exist, is not a store, was written by a later version of featx, or refers to other files.
    StoreUnreadable, StoreLocked
        If the file cannot be read now: another program has locked it, the user may not read it, or its disk fails.
        Every property and method can raise this error.
    StoreCorrupt
        If the file is truncated or its bytes have changed. Every property and method can raise this error.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        with self._reading():
            if not self.path.is_file():
                raise StoreError(
                    f"{self.path} does not exist; create it with: featx extract IMAGES --output {self.path}"
                )
            check_readable(self.path, StoreError)
            if not h5py.is_hdf5(self.path):
                raise StoreError(f"{self.path} is not a featx store: it is not an HDF5 file")
            self._file = open_untrusted(self.path, StoreError)
        try:
            with self._reading():
                self._check()
        except BaseException:
            self.close()
            raise

    def _check(self) -> None:
        if "schema" not in self._file.attrs:
            raise StoreError(f"{self.path} is not a featx store: it has no schema attribute")
        with self.path.open("rb") as raw:
            check_attribute_heaps(self._file, raw)
        schema = self._file.attrs["schema"]
        if schema > SCHEMA:
            raise StoreError(f"{self.path} has schema {schema}, but this featx reads at most {SCHEMA}; update featx")
        self.spec = read_spec(self._file)
        self.versions = read_versions(self._file)
        self.n_rows = int(self._file["rows/path"].shape[0])
        self.n_images = self.n_rows // self.spec.n_views
        self._n_classes = int(self._file["classes"].shape[0])
        for name, width in self.spec.widths.items():
            shape = self._file[f"features/{name}"].shape
            if shape != (self.n_rows, width):
                raise StoreCorrupt(f"{name} of {self.path} must have shape {(self.n_rows, width)}, got {shape}")
        check_columns(self._file)

    def __enter__(self) -> "Store":
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return "\n".join([f"<Store: {self.path}", *(f"  {name}: {text}" for name, text in self._facts.items())]) + ">"

    def _repr_html_(self) -> str:
        return html_table(f"Store: {self.path}", self._facts)

    @property
    def _facts(self) -> dict[str, str]:
        """The most important facts, by name.

        They are read when the store is opened, so that a closed store also has a repr.
        """
        spec = self.spec
        blocks = f"block{'s' * (len(spec.blocks) > 1)} {', '.join(map(str, spec.blocks))}"
        return {
            "images": f"{self.n_images:,} in {pluralize(self._n_classes, 'class', 'classes')}",
            "rows": f"{self.n_rows:,} (n_views {spec.n_views})",
            "features": f"{blocks}, {', '.join(spec.pools)}: {pluralize(spec.width, 'column')}",
            "computed with": f"backbone {spec.backbone}, {spec.precision}, from {spec.size} pixels, {spec.resize}",
        }

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    @property
    def version(self) -> str:
        """The version of featx that wrote the store."""
        return self.versions["featx"]

    @property
    def paths(self) -> list[str]:
        """The path of each row's image file, relative to the folder that was extracted."""
        return self._strings("rows/path")

    @property
    def digests(self) -> list[str]:
        """The sha256 of each row's image file, as hex."""
        return self._strings("rows/digest")

    @property
    def labels(self) -> np.ndarray:
        """Index into ``classes`` of each row's label, int32 (rows,).

        A row without a label has -1. A row of a multi-label image has the index of the first label.
        """
        codes = self._column("rows/label")
        last = len(self.classes) - 1
        if len(codes) and (codes.min() < NO_LABEL or codes.max() > last):
            raise StoreCorrupt(
                f"labels of {self.path} must be {NO_LABEL} to {last}, got {codes.min()} to {codes.max()}"
            )
        return codes

    @property
    def multilabel_targets(self) -> np.ndarray | None:
        """All labels of each row, bool (rows, classes); None if no image has several labels."""
        if "labels_multi" not in self._file["rows"]:
            return None
        indicator = self._column("rows/labels_multi")
        shape = (self.n_rows, len(self.classes))
        if indicator.dtype != np.bool_ or indicator.shape != shape:
            raise StoreCorrupt(
                f"labels_multi of {self.path} must be bool {shape}, got {indicator.dtype} {indicator.shape}"
            )
        return indicator

    @property
    def targets(self) -> np.ndarray:
        """The targets for a classifier: ``multilabel_targets`` if an image has several labels, else ``labels``."""
        indicator = self.multilabel_targets
        return self.labels if indicator is None else indicator

    @property
    def view_index(self) -> np.ndarray:
        """The number of each row's augmented copy, int32 (rows,); 0 stands for the plain image."""
        return self._column("rows/view")

    @property
    def exif_rotated(self) -> np.ndarray:
        """Whether the image of each row was rotated or mirrored because of its EXIF orientation, bool (rows,)."""
        return self._column("rows/turned")

    @property
    def remarks(self) -> np.ndarray:
        """The remarks on the image of each row, uint8 (rows,), as bits of `featx.images.PixelRemark`; 0 if none."""
        with self._reading():
            return read_remarks(self._file)

    @property
    def classes(self) -> list[str]:
        """The sorted class names."""
        return self._strings("classes")

    @property
    def columns(self) -> dict[str, list[str]]:
        """The columns ``split…`` and ``weight…`` of the manifest by name, with one value per row."""
        with self._reading():
            return {name: read_strings(column) for name, column in self._file.get("splits", {}).items()}

    @property
    def failures(self) -> list[tuple[str, str]]:
        """The path of each image that could not be read, and the reason."""
        with self._reading():
            return read_failures(self._file)

    @property
    def listing(self) -> dict[str, Any]:
        """How the source of the images was read, when the store was last written.

        ``layout`` is a phrase such as ``"class folders"``. ``columns`` maps the names of columns and of the label to
        their names in the source. ``notes`` says what was skipped, guessed, merged or converted; each note has a
        ``kind``, a ``text`` and a ``count``. For stores of older versions and for merged stores, the dictionary is
        empty, because this is not known.
        """
        with self._reading():
            return read_listing(self._file)

    @property
    def parts(self) -> list[Path]:
        """The part files that hold the features of a virtual store; empty for other stores.

        These files must stay beside the store.
        """
        with self._reading():
            return [self.path.resolve().parent / name for name in sorted(virtual.source_files(self._file))]

    @property
    def dtype(self) -> str:
        """The type in which features are stored, ``float32`` or ``float16``; `read` always returns float32."""
        with self._reading():
            return str(next(iter(self._file["features"].values())).dtype)

    @property
    def reference_features(self) -> dict[str, np.ndarray]:
        """Features of the three reference images, float32 (3, width) by feature name."""
        with self._reading():
            return read_identity(self._file)[1]

    def image_table(self) -> tuple[ImageTable, np.ndarray]:
        """Return the path, labels and columns of each image, without features.

        Returns
        -------
        ImageTable
            Paths, labels and columns, with one row per image.
        S64 (images,)
            The sha256 of each image file, as hex.
        """
        plain = slice(None, None, self.spec.n_views)
        indicator = self.multilabel_targets
        with self._reading():
            file = self._file
            paths, digests = read_string_array(file["rows/path"])[plain], file["rows/digest"][plain].astype("S64")
            columns = {
                name: CategoricalArray.from_values(read_strings(column)[plain])
                for name, column in file.get("splits", {}).items()
            }
        labels = decode_labels(self.classes, self.labels[plain], None if indicator is None else indicator[plain])
        return ImageTable(paths, labels, columns), digests

    def rows_in_split(self, split: str | None, split_column: str = "split") -> np.ndarray:
        """Find the rows of a split.

        Parameters
        ----------
        split : str, optional
            The value to look for in the split column, such as ``train``. None selects all rows.
        split_column : str
            The name of the split column.

        Returns
        -------
        int64 (n,)
            The row numbers, in order.

        Raises
        ------
        DataError
            If the store does not have the column, or no row has the value.
        """
        if split is None:
            return np.arange(self.n_rows)
        columns = self.columns
        if split_column not in columns:
            known = ", ".join(columns) or "none: extract from a manifest that has one"
            raise DataError(f"the split column of {self.path} must be one of its columns ({known}), got {split_column}")
        rows = np.flatnonzero(np.array(columns[split_column]) == split)
        if not len(rows):
            values = ", ".join(sorted(set(columns[split_column])))
            raise DataError(f"{split_column} of {self.path} has no row with the value {split!r}, only {values}")
        return rows

    def check_compatible(self, spec: ExtractSpec, whose: str) -> None:
        """Check that the store holds the features that a spec describes.

        Parameters
        ----------
        spec : ExtractSpec
            The spec of the features that are needed. The store may have more blocks and pools.
        whose : str
            The thing that needs the features, for the message, such as ``"the model"``.

        Raises
        ------
        SpecMismatch
            If the specs differ.
        SpecError
            If a block or pool is missing.
        """
        # A fine-tuned backbone has no public name, so the user must also give its weights. They are beside its model.
        other = (
            f", including --backbone {spec.backbone} and its --weights" if spec.backbone != self.spec.backbone else ""
        )
        spec.check_same(
            self.spec.plain.select(spec.blocks, spec.pools),
            this=whose,
            that=str(self.path),
            remedy=f"extract the images with the options of {whose}{other}",
        )

    def read(self, names: Iterable[str], rows: np.ndarray | None = None) -> np.ndarray:
        """Read features.

        Parameters
        ----------
        names : iterable of str
            Names of features, such as ``block3_avg``. The columns of the features are concatenated in this order.
        rows : int64 (n,), optional
            Sorted row numbers; by default all rows. Only the chunks that contain these rows are read.

        Returns
        -------
        float32 (n, columns)

        Raises
        ------
        StoreError
            If a part file of a virtual store cannot be opened.
        """
        names = list(names)
        rows = np.arange(self.n_rows) if rows is None else rows
        widths = [self.spec.widths[name] for name in names]
        values = np.empty((len(rows), sum(widths)), np.float32)
        start = 0
        for name, width in zip(names, widths, strict=True):
            columns = values[:, start : start + width]
            with self._reading():
                self._read_rows(name, rows, columns)
            start += width
        return values

    def _read_rows(self, name: str, rows: np.ndarray, target: np.ndarray) -> None:
        dataset, whose = self._file[f"features/{name}"], f"{name} of {self.path}"
        try:
            read_rows(dataset, rows, target)
        except READ_ERRORS:
            virtual.check_parts(whose, self.parts)
            raise
        if dataset.is_virtual:
            virtual.check_not_missing(target, whose, self.parts)

    def _strings(self, name: str) -> list[str]:
        with self._reading():
            return read_strings(self._file[name])

    def _column(self, name: str) -> np.ndarray:
        with self._reading():
            values: np.ndarray = self._file[name][:]
        return values

    def _reading(self) -> AbstractContextManager[None]:
        """Raise the errors of stores in a ``with`` block, instead of the errors of h5py."""
        return wrap_read_errors(self.path, StoreError, self._damaged)

    def _damaged(self, error: Exception) -> StoreCorrupt:
        return StoreCorrupt(f"{self.path} is cut short or damaged ({error}); extract it again with --overwrite")
