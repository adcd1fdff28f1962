"""Compute the output of the frozen layers once and keep it on disk."""

import dataclasses
import itertools
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from joblib import cpu_count

from featx.backbones import BLOCK_NUMBERS, BLOCKS, feature_name
from featx.engines import Engine, feature_parts
from featx.errors import DataError, ModelError
from featx.files import FileLock, sync_descriptor, wrap_os_error, wrap_read_errors
from featx.images import MAX_PIXELS, list_images, load_images
from featx.runtime import Compute, progress_bar
from featx.spec import ExtractSpec

ROWS, INDEX, LOCK = ".activations", ".index", ".lock"
"""Suffixes of the files of a cache."""
HEADER = b"featx activations 1\n"
ENTRY = re.compile(rb"([0-9a-f]{64}) ([1-9][0-9]{0,5})\n")
"""A line of the index: the sha256 of an image file, and how many of its augmented copies the cache holds."""
IMAGES_PER_WRITE = 16
"""Images per write if the cache holds the images themselves. Then there is no engine whose batch size could be used."""


def activation_spec(spec: ExtractSpec, block: int) -> ExtractSpec:
    """Return the spec that extracts the whole output of a block. Its augmented copies are those of ``spec``."""
    return dataclasses.replace(spec, blocks=(block,), pools=("flat",))


def activation_shape(spec: ExtractSpec, block: int) -> tuple[int, int, int]:
    """Return channels, height and width of the output of a block. Block 0 stands for the images themselves."""
    if block == 0:
        return 3, spec.size, spec.size
    side = spec.size // BLOCKS[block - 1].stride
    return BLOCKS[block - 1].channels, side, side


@dataclass(frozen=True)
class RowSelection:
    """Some rows of an array (rows, …). They are read from disk when they are indexed."""

    values: np.ndarray
    numbers: np.ndarray

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        chosen: np.ndarray = self.values[self.numbers[rows]]
        return chosen


class ActivationCache:
    """A file with the output of one block for images and their augmented copies.

    Each row is the output for one copy: (channels, height, width), float16. Block 0 stands for the images themselves,
    which are uint8. An image is found by the sha256 of its file, because the bytes of the file and the spec decide the
    values. So one cache serves every split, store and recipe, and only images that it lacks are computed. An index file
    beside the cache gets one line per image when the rows of the image are on disk. So a stopped run resumes after the
    last complete image.

    Parameters
    ----------
    folder : Path
    spec : ExtractSpec
        Spec of the store, which decides the augmented copies.
    block : int
        The block whose output is kept; 0 for the images.
    """

    def __init__(self, folder: Path, spec: ExtractSpec, block: int) -> None:
        self._spec, self._block = spec, block
        digest = activation_spec(spec, block or BLOCK_NUMBERS[0]).digest
        self._path = folder / f"block{block}-{digest[:16]}{ROWS}"
        self._index = self._path.with_suffix(INDEX)
        self._dtype = np.dtype(np.float16 if block else np.uint8)
        self._shape = activation_shape(spec, block)

    def select(self, digests: Iterable[str], n_views: int) -> RowSelection:
        """Select the first ``n_views`` copies of each image.

        ``digests`` holds the sha256 of each image, which must be in the cache. Rows are sorted by image, in the order
        of ``digests``, and then by copy.
        """
        index = self._read_index()
        with wrap_read_errors(self._path, ModelError, self._damaged):
            values = np.memmap(self._path, self._dtype, "r", shape=(index.rows, *self._shape))
        first = np.array([index.images[digest][0] for digest in digests])
        return RowSelection(values, (first[:, None] + np.arange(n_views)).ravel())

    def fill(
        self, make_engine: Callable[[ExtractSpec], Engine], images: Mapping[str, str], n_views: int, root: Path,
        compute: Compute,
    ) -> None:  # fmt: skip
        """Compute the images that the cache lacks. If another process is filling the cache, wait for it.

        Parameters
        ----------
        make_engine : callable
            Makes the engine for a spec.
        images : mapping
            sha256 of each image file by its path.
        n_views : int
            Copies per image: 1 (only the plain image), or the ``n_views`` of the spec.
        root : Path
            Folder that the paths are relative to.
        compute : Compute
            Workers, pixel limit and progress bar.

        Raises
        ------
        DataError
            If an image cannot be read, or has changed.
        ModelUnreadable
            If the cache cannot be read now; nothing of it is replaced.
        ModelError
            If the disk is full or cannot be written, or the index is damaged.
        """
        spec = self._spec if n_views > 1 else self._spec.plain
        with wrap_os_error(self._path, ModelError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            if not self._read_index().missing(images, n_views):
                return
        with wrap_os_error(self._path, ModelError), FileLock(self._path.with_suffix(LOCK)):
            index = self._read_index()
            pending = index.missing(images, n_views)  # check again: another process may have filled the cache
            if pending:
                computed = self._compute(make_engine, spec, pending, root, compute)
                with progress_bar(len(pending), "image", "frozen layers", shown=compute.progress) as bar:
                    self._append(index, computed, n_views, bar.update)

    def _append(
        self, index: "_Index", computed: Iterable[tuple[list[str], np.ndarray]], n_views: int,
        advance: Callable[[int], object],
    ) -> None:  # fmt: skip
        """Write rows, then their lines of the index. They replace what a stopped run left unfinished."""
        # Write without a memory map: on a full disk, writing to a memory map kills the process.
        with (
            self._path.open("r+b" if index.rows else "wb") as rows_file,
            self._index.open("r+b" if index.size else "wb") as index_file,
        ):
            rows_file.seek(index.rows * self._row_bytes)
            index_file.seek(index.size)
            index_file.truncate()
            if not index.size:
                index_file.write(HEADER)
            for digests, rows in computed:
                lines = "".join(f"{digest} {n_views}\n" for digest in digests).encode()
                for file, data in ((rows_file, rows.tobytes()), (index_file, lines)):
                    file.write(data)
                    file.flush()
                    sync_descriptor(file.fileno())
                advance(len(digests))

    def _compute(
        self, make_engine: Callable[[ExtractSpec], Engine], spec: ExtractSpec, pending: Mapping[str, str], root: Path,
        compute: Compute,
    ) -> Iterator[tuple[list[str], np.ndarray]]:  # fmt: skip
        """Yield batches of images: their digests, and the rows of all their copies."""
        listing = list_images(list(pending), root)
        workers, max_pixels = compute.workers or cpu_count(), compute.max_pixels or MAX_PIXELS
        if self._block == 0:
            loaded = load_images(listing, range(len(listing)), spec, workers, max_pixels)
            while images := list(itertools.islice(loaded, IMAGES_PER_WRITE)):
                digests = [image.digest for image in images]
                failures = [(image.path, image.reason) for image in images if image.reason]
                _check_images(pending, [image.path for image in images], digests, failures)
                yield digests, np.stack([view for image in images for view in image.views]).transpose(0, 3, 1, 2)
            return
        name = feature_name(self._block, "flat")
        engine = make_engine(activation_spec(spec, self._block))
        for part in feature_parts(engine, listing, range(len(listing)), workers, max_pixels):
            _check_images(pending, part.paths, part.digests, part.failures)
            values = part.features[name].reshape(-1, *self._shape)
            if values.max(initial=0) > np.finfo(np.float16).max:
                raise DataError(
                    f"the output of block {self._block} exceeds the range of float16; --unfreeze an earlier block"
                )
            yield part.digests[:: spec.n_views], values.astype(np.float16)

    def _damaged(self, error: Exception) -> ModelError:
        return ModelError(f"{self._path} is damaged ({error}); remove it and {self._index.name}")

    @property
    def _row_bytes(self) -> int:
        return self._dtype.itemsize * math.prod(self._shape)

    def _read_index(self) -> "_Index":
        """Read which images are complete. Ignore an unfinished last line, and images whose rows are cut off."""
        index = _Index({}, 0, 0)
        with wrap_read_errors(self._index, ModelError, self._damaged):
            try:
                text, size = self._index.read_bytes(), self._path.stat().st_size
            except FileNotFoundError:
                return index
        lines = text[: text.rfind(b"\n") + 1].splitlines(keepends=True)
        if not lines:
            return index
        if lines[0] != HEADER:
            raise ModelError(
                f"{self._index} is not the index of an activation cache that this version of featx can read; remove it"
            )
        index.size = len(HEADER)
        for line in lines[1:]:
            entry = ENTRY.fullmatch(line)
            if not entry:
                raise ModelError(f"{self._index} is damaged at {line!r}; remove it")
            digest, n_views = entry[1].decode(), int(entry[2])
            if (index.rows + n_views) * self._row_bytes > size:
                break
            index.images[digest] = (index.rows, n_views)
            index.rows += n_views
            index.size += len(line)
        return index


@dataclass
class _Index:
    """The complete images of a cache.

    ``images`` maps the sha256 of an image to its first row and its number of copies. ``rows`` counts all rows. ``size``
    is the size in bytes of the index file up to the last complete image.
    """

    images: dict[str, tuple[int, int]]
    rows: int
    size: int

    def missing(self, images: Mapping[str, str], n_views: int) -> dict[str, str]:
        """Select the images (sha256 by path) with fewer than ``n_views`` copies. Of equal images, select one."""
        missing = {digest: path for path, digest in images.items() if self.images.get(digest, (0, 0))[1] < n_views}
        return {path: digest for digest, path in missing.items()}


def _check_images(
    expected: Mapping[str, str], paths: Sequence[str], digests: Sequence[str], failures: Sequence[tuple[str, str]]
) -> None:
    if failures:
        path, reason = failures[0]
        raise DataError(
            f"{path} of the store cannot be used for training: {reason}; finetune reads the image files again: "
            "give their folder by --root, or update the store first"
        )
    for path, digest in zip(paths, digests, strict=True):
        if digest != expected[path]:
            raise DataError(
                f"{path} has changed since the store was made; update the store by extract and fit the model again"
            )
