"""What the frozen layers give, computed once and kept on disk: images, or the output of the last frozen block."""

import dataclasses
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import filelock
import numpy as np

from featx.atomic import blaming
from featx.blocks import BLOCK_NUMBERS, BLOCKS, feature_name
from featx.engines import Engine
from featx.engines.streaming import feature_parts
from featx.errors import DataError, ModelError
from featx.images import list_images
from featx.images.loading import load_images
from featx.progress import progress_bar
from featx.spec import ExtractSpec

ROWS, INDEX, LOCK = ".boundary", ".index", ".lock"
"""Endings of a boundary's files."""


def boundary_spec(spec: ExtractSpec, block: int) -> ExtractSpec:
    """The spec of a block's whole output, for the views of ``spec``."""
    return dataclasses.replace(spec, blocks=(block,), pools=("flat",))


def boundary_shape(spec: ExtractSpec, block: int) -> tuple[int, int, int]:
    """Channels, height and width of a block's output; of images for block 0."""
    if block == 0:
        return 3, spec.size, spec.size
    side = spec.size // BLOCKS[block - 1].stride
    return BLOCKS[block - 1].channels, side, side


@dataclass(frozen=True)
class Selected:
    """The rows ``numbers`` of an array (rows, …), of its dtype, read when they are asked for."""

    values: np.ndarray
    numbers: np.ndarray

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        chosen: np.ndarray = self.values[self.numbers[rows]]
        return chosen


class Boundary:
    """Activations (channels, height, width) of views of images in one file: float16, or uint8 for images.

    They are known by the sha256 of the image's bytes, since spec and bytes decide them: a file serves every split,
    store and recipe, and grows by what they lack. Beside it an index has a line an image, written once its rows are
    there: a run that was stopped goes on after the last.
    """

    def __init__(self, folder: Path, spec: ExtractSpec, block: int) -> None:
        self._spec, self._block = spec, block
        digest = boundary_spec(spec, block or BLOCK_NUMBERS[0]).digest
        self._path = folder / f"block{block}-{digest[:16]}{ROWS}"
        self._index = self._path.with_suffix(INDEX)
        self._dtype = np.dtype(np.float16 if block else np.uint8)
        self._shape = boundary_shape(spec, block)

    def of(self, digests: Iterable[str], views: int) -> Selected:
        """The rows of the first ``views`` of images that are there; by image, then by view."""
        known = self._read_index()
        values = np.memmap(self._path, self._dtype, "r", shape=(known.rows, *self._shape))
        first = np.array([known.images[digest][0] for digest in digests])
        return Selected(values, (first[:, None] + np.arange(views)).ravel())

    def fill(
        self, make: Callable[[ExtractSpec], Engine], images: Mapping[str, str], views: int, root: Path, workers: int,
        *, progress: bool,
    ) -> None:  # fmt: skip
        """Compute the first ``views`` (1, or all of the spec) of those images, digests by path, that are not there yet.

        Raises
        ------
        DataError
            If an image cannot be read, or has changed.
        ModelError
            If the disk does not take it, or another process is filling the file.
        """
        spec = self._spec if views > 1 else self._spec.plain
        with blaming(self._path, ModelError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
        with blaming(self._path, ModelError), _alone(self._path):
            known = self._read_index()
            pending = {path: digest for path, digest in images.items() if known.images.get(digest, (0, 0))[1] < views}
            if not pending:
                return
            # Not through mapped memory: a disk that is full would end the process there.
            with (
                self._path.open("r+b" if known.rows else "wb") as file,
                self._index.open("r+b" if known.rows else "wb") as index,
                progress_bar(len(pending), "image", "frozen layers", shown=progress) as bar,
            ):
                file.seek(known.rows * self._row_bytes)
                index.seek(known.end)
                index.truncate()
                for digests, rows in self._compute(make, spec, pending, root, workers):
                    for output, data in ((file, rows.tobytes()), (index, _lines(digests, views))):
                        output.write(data)
                        output.flush()
                        os.fsync(output.fileno())
                    bar.update(len(digests))

    def _compute(
        self, make: Callable[[ExtractSpec], Engine], spec: ExtractSpec, pending: Mapping[str, str], root: Path,
        workers: int,
    ) -> Iterator[tuple[list[str], np.ndarray]]:  # fmt: skip
        """Digests of images, and the rows of all their views, some images at a time."""
        listing = list_images(list(pending), root)
        if self._block == 0:
            for image in load_images(listing, range(len(listing)), spec, workers):
                _check(pending, [image.path], [image.digest], [(image.path, image.reason)] if image.reason else [])
                yield [image.digest], np.stack(image.views).transpose(0, 3, 1, 2)
            return
        name = feature_name(self._block, "flat")
        for part in feature_parts(make(boundary_spec(spec, self._block)), listing, range(len(listing)), workers):
            _check(pending, part.paths, part.digests, part.failures)
            values = part.features[name].reshape(-1, *self._shape)
            if values.max(initial=0) > np.finfo(np.float16).max:
                raise DataError(f"block {self._block} leaves the range of float16; unfreeze an earlier block")
            yield part.digests[:: spec.views], values.astype(np.float16)

    @property
    def _row_bytes(self) -> int:
        return self._dtype.itemsize * math.prod(self._shape)

    def _read_index(self) -> "_Known":
        """What is there; a line that a killed process left unfinished is not."""
        known = _Known({}, 0, 0)
        try:
            text, size = self._index.read_bytes(), self._path.stat().st_size
        except FileNotFoundError:
            return known
        known.end = text.rfind(b"\n") + 1
        for line in text[: known.end].decode().splitlines():
            digest, views = line.split()
            known.images[digest] = (known.rows, int(views))
            known.rows += int(views)
        # Fewer rows than the index tells of: a copy that was not finished.
        return known if known.rows * self._row_bytes <= size else _Known({}, 0, 0)


@dataclass
class _Known:
    """First row and number of views of images by digest; all rows; and the bytes of the index that tell of them."""

    images: dict[str, tuple[int, int]]
    rows: int
    end: int


def _lines(digests: Iterable[str], views: int) -> bytes:
    return "".join(f"{digest} {views}\n" for digest in digests).encode()


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Keep other processes from the same file."""
    try:
        with filelock.FileLock(path.with_suffix(LOCK), timeout=0):
            yield
    except filelock.Timeout:
        raise ModelError(f"{path} is being written by another featx; wait until it is done") from None


def _check(
    known: Mapping[str, str], paths: Sequence[str], digests: Sequence[str], failures: Sequence[tuple[str, str]]
) -> None:
    if failures:
        path, reason = failures[0]
        raise DataError(f"{path}, of which the store has a row, cannot be read: {reason}; update the store first")
    for path, digest in zip(paths, digests, strict=True):
        if digest != known[path]:
            raise DataError(f"{path} has changed since the store was made; update the store and fit the model again")
