"""Reading a store: what it is first, rows and features only when asked for."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import h5py
import numpy as np

from featx.errors import DataError, FeatxError, StoreCorrupt, StoreError
from featx.files import open_untrusted
from featx.spec import ExtractSpec
from featx.store import layout, virtual
from featx.store.hdf5_heap_check import check_heaps
from featx.table import NO_LABEL, CategoricalArray, ImageTable, decode_labels


def is_store(path: str | Path) -> bool:
    """Whether a path is an HDF5 file, and so a store rather than an image."""
    return Path(path).is_file() and bool(h5py.is_hdf5(path))


class Store:
    """An open store; use it as a context manager.

    Opening reads the spec and checks schema and row counts; each property and `read` loads only what it names.

    Parameters
    ----------
    path : str or Path
        The store's file.

    Raises
    ------
    StoreError
        If there is no such file, it is no store, a later featx wrote it, or it refers to other files.
    StoreCorrupt
        If it is cut short or its bytes have changed; from any reading.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise StoreError(f"{self.path} is not there; make it with: featx extract IMAGES --output {self.path}")
        if not h5py.is_hdf5(self.path):
            raise StoreError(f"{self.path} is no featx store: it is not an HDF5 file")
        with self._reading():
            self._file = open_untrusted(self.path, StoreError)
        try:
            with self._reading():
                self._check()
        except BaseException:
            self.close()
            raise

    def _check(self) -> None:
        if "schema" not in self._file.attrs:
            raise StoreError(f"{self.path} is no featx store: it has no schema attribute")
        check_heaps(self._file, self.path)
        schema = self._file.attrs["schema"]
        if schema > layout.SCHEMA:
            raise StoreError(f"{self.path} has schema {schema}, this featx reads up to {layout.SCHEMA}; update featx")
        self.spec = ExtractSpec.from_json(self._file.attrs["spec"])
        self.versions = layout.read_versions(self._file)
        self.version = self.versions["featx"]
        self.n_rows = int(self._file["rows/path"].shape[0])
        for name, width in self.spec.widths.items():
            shape = self._file[f"features/{name}"].shape
            if shape != (self.n_rows, width):
                raise StoreCorrupt(f"{name} of {self.path} must have shape {(self.n_rows, width)}, got {shape}")
        layout.check_columns(self._file)

    def __enter__(self) -> "Store":
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    @property
    def paths(self) -> list[str]:
        """The rows' image files, relative to the folder that was extracted."""
        return self._strings("rows/path")

    @property
    def digests(self) -> list[str]:
        """sha256 of each row's file, as hex."""
        return self._strings("rows/digest")

    @property
    def labels(self) -> np.ndarray:
        """int32 (rows,): index into ``classes``, -1 for no label; the first where an image has several."""
        codes = self._column("rows/label")
        last = len(self.classes) - 1
        if len(codes) and (codes.min() < NO_LABEL or codes.max() > last):
            raise StoreCorrupt(
                f"labels of {self.path} must be {NO_LABEL} to {last}, got {codes.min()} to {codes.max()}"
            )
        return codes

    @property
    def multilabel_targets(self) -> np.ndarray | None:
        """bool (rows, classes): all labels of each row; None where no image has several."""
        if "labels_multi" not in self._file["rows"]:
            return None
        indicator = self._column("rows/labels_multi")
        shape = (self.n_rows, len(self.classes))
        if indicator.dtype != np.bool_ or indicator.shape != shape:
            raise StoreCorrupt(f"labels_multi of {self.path} must be bool {shape}, "
                               f"got {indicator.dtype} {indicator.shape}")  # fmt: skip
        return indicator

    @property
    def targets(self) -> np.ndarray:
        """``labels``, or ``indicator`` where images have several."""
        indicator = self.multilabel_targets
        return self.labels if indicator is None else indicator

    @property
    def view_index(self) -> np.ndarray:
        """int32 (rows,): which view of its image each row is; 0 is the plain picture."""
        return self._column("rows/view")

    @property
    def exif_rotated(self) -> np.ndarray:
        """bool (rows,): whether an EXIF orientation was applied."""
        return self._column("rows/turned")

    @property
    def classes(self) -> list[str]:
        """The class names, sorted."""
        return self._strings("classes")

    @property
    def columns(self) -> dict[str, list[str]]:
        """One value a row for each column of the manifest that begins with ``split`` or ``weight``."""
        with self._reading():
            return {name: layout.read_strings(column) for name, column in self._file.get("splits", {}).items()}

    @property
    def failures(self) -> list[tuple[str, str]]:
        """(path, reason) of the images that could not be read."""
        with self._reading():
            return layout.read_failures(self._file)

    @property
    def parts(self) -> list[Path]:
        """The part files that hold the features of a virtual store, which must stay beside it; else empty."""
        with self._reading():
            return [self.path.resolve().parent / name for name in sorted(virtual.referred(self._file))]

    @property
    def dtype(self) -> str:
        """``float32`` or ``float16``: in which features are kept; they are read as float32."""
        with self._reading():
            return str(next(iter(self._file["features"].values())).dtype)

    @property
    def reference_features(self) -> dict[str, np.ndarray]:
        """Features of the golden images, float32 (3, width) by name."""
        with self._reading():
            return layout.read_identity(self._file)[1]

    def image_table(self) -> tuple[ImageTable, np.ndarray]:
        """What is known of each image besides its features, a row an image, and the digests, ``S64`` (images,)."""
        plain = slice(None, None, self.spec.n_views)
        indicator = self.multilabel_targets
        with self._reading():
            file = self._file
            paths, digests = layout.read_texts(file["rows/path"])[plain], file["rows/digest"][plain].astype("S64")
            columns = file.get("splits", {}).items()
            splits = {
                name: CategoricalArray.from_values(layout.read_strings(column)[plain]) for name, column in columns
            }
        labels = decode_labels(self.classes, self.labels[plain], None if indicator is None else indicator[plain])
        return ImageTable(paths, labels, splits), digests

    def rows_in_split(self, split: str | None, split_column: str = "split") -> np.ndarray:
        """int64 indices of the rows whose value in a split column is ``split``; of all rows for None."""
        if split is None:
            return np.arange(self.n_rows)
        splits = self.columns
        if split_column not in splits:
            known = ", ".join(splits) or "none: extract a manifest that has one"
            raise DataError(
                f"the split column of {self.path} must be one of those it has ({known}), got {split_column}"
            )
        rows = np.flatnonzero(np.array(splits[split_column]) == split)
        if not len(rows):
            values = ", ".join(sorted(set(splits[split_column])))
            raise DataError(f"{split_column} of {self.path} has no row {split!r}; it has {values}")
        return rows

    def check_compatible(self, spec: ExtractSpec, whose: str) -> None:
        """Raise ``SpecMismatch`` or ``SpecError`` if the features of ``spec`` are not among the store's."""
        # A backbone that was fine-tuned is known by no name: it lies beside its model.
        other = (
            f", --backbone {spec.backbone} and its --weights among them" if spec.backbone != self.spec.backbone else ""
        )
        spec.check_same(
            self.spec.plain.select(spec.blocks, spec.pools),
            this=whose,
            that=str(self.path),
            remedy=f"extract the images with the options of {whose}{other}",
        )

    def read(self, names: Iterable[str], rows: np.ndarray | None = None) -> np.ndarray:
        """Features side by side, float32 (rows, sum of widths), for all rows or for those of sorted indices.

        Only the chunks that hold those rows and features are read.
        """
        names = list(names)
        count = self.n_rows if rows is None else len(rows)
        widths = [self.spec.widths[name] for name in names]
        values = np.empty((count, sum(widths)), np.float32)
        start = 0
        for name, width in zip(names, widths, strict=True):
            with self._reading():
                self._read_into(values[:, start : start + width], name, rows)
            start += width
        return values

    def _read_into(self, target: np.ndarray, name: str, rows: np.ndarray | None) -> None:
        dataset = self._file[f"features/{name}"]
        rows = np.arange(self.n_rows) if rows is None else rows
        row_bytes = dataset.dtype.itemsize * target.shape[1]
        chunks, blocks = (rows // max(1, size // row_bytes) for size in (layout.CHUNK_BYTES, layout.BLOCK_BYTES))
        cuts = np.flatnonzero((np.diff(chunks) > 1) | (np.diff(blocks) > 0)) + 1
        for start, stop in pairwise([0, *cuts.tolist(), len(rows)] if len(rows) else []):
            low, high = rows[start], rows[stop - 1] + 1
            target[start:stop] = dataset[low:high][rows[start:stop] - low]
        if dataset.is_virtual:
            virtual.check_read(target, f"{name} of {self.path}")

    def _strings(self, name: str) -> list[str]:
        with self._reading():
            return layout.read_strings(self._file[name])

    def _column(self, name: str) -> np.ndarray:
        with self._reading():
            values: np.ndarray = self._file[name][:]
        return values

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """Turn what HDF5 raises on damaged bytes into ``StoreCorrupt``."""
        try:
            yield
        except FeatxError:
            raise
        except layout.DAMAGE as error:
            raise StoreCorrupt(
                f"{self.path} is cut short or damaged ({error}); extract it anew with --overwrite"
            ) from error
