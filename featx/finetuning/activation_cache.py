"""What the frozen layers give, computed once and kept on disk: images, or the output of the last frozen block."""

import dataclasses
import itertools
import math
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import filelock
import numpy as np

from featx.backbones import BLOCK_NUMBERS, BLOCKS, feature_name
from featx.engines import Engine, feature_parts
from featx.errors import DataError, ModelError
from featx.files import wrap_os_error
from featx.images import MAX_PIXELS, list_images, load_images
from featx.runtime import progress_bar
from featx.spec import ExtractSpec

ROWS, INDEX, LOCK = ".boundary", ".index", ".lock"
"""Endings of a boundary's files."""
HEADER = b"featx boundary 1\n"
ENTRY = re.compile(rb"([0-9a-f]{64}) ([1-9][0-9]{0,5})\n")
"""An image's line in the index: its sha256, and how many of its views are there."""
AT_ONCE = 16
"""Images that are written together where no engine says how many."""


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
        max_pixels: int = MAX_PIXELS, *, progress: bool,
    ) -> None:  # fmt: skip
        """Compute the first ``views`` (1, or all of the spec) of those images, digests by path, that are not there yet.

        While another process fills the file, this one waits.

        Raises
        ------
        DataError
            If an image cannot be read, or has changed.
        ModelError
            If the disk does not take it, or the index is damaged.
        """
        spec = self._spec if views > 1 else self._spec.plain
        with wrap_os_error(self._path, ModelError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            if not self._read_index().lacking(images, views):
                return
        with wrap_os_error(self._path, ModelError), filelock.FileLock(self._path.with_suffix(LOCK)):
            known = self._read_index()
            pending = known.lacking(images, views)  # the one that had the lock may have computed it
            if not pending:
                return
            # Not through mapped memory: a disk that is full would end the process there.
            with (
                self._path.open("r+b" if known.rows else "wb") as file,
                self._index.open("r+b" if known.end else "wb") as index,
                progress_bar(len(pending), "image", "frozen layers", shown=progress) as bar,
            ):
                file.seek(known.rows * self._row_bytes)
                index.seek(known.end)
                index.truncate()
                if not known.end:
                    index.write(HEADER)
                for digests, rows in self._compute(make, spec, pending, root, workers, max_pixels):
                    for output, data in ((file, rows.tobytes()), (index, _lines(digests, views))):
                        output.write(data)
                        output.flush()
                        os.fsync(output.fileno())
                    bar.update(len(digests))

    def _compute(
        self, make: Callable[[ExtractSpec], Engine], spec: ExtractSpec, pending: Mapping[str, str], root: Path,
        workers: int, max_pixels: int,
    ) -> Iterator[tuple[list[str], np.ndarray]]:  # fmt: skip
        """Digests of images, and the rows of all their views, some images at a time."""
        listing = list_images(list(pending), root)
        if self._block == 0:
            loaded = load_images(listing, range(len(listing)), spec, workers, max_pixels)
            while images := list(itertools.islice(loaded, AT_ONCE)):
                digests = [image.digest for image in images]
                failures = [(image.path, image.reason) for image in images if image.reason]
                _check(pending, [image.path for image in images], digests, failures)
                yield digests, np.stack([view for image in images for view in image.views]).transpose(0, 3, 1, 2)
            return
        name = feature_name(self._block, "flat")
        engine = make(boundary_spec(spec, self._block))
        for part in feature_parts(engine, listing, range(len(listing)), workers, max_pixels):
            _check(pending, part.paths, part.digests, part.failures)
            values = part.features[name].reshape(-1, *self._shape)
            if values.max(initial=0) > np.finfo(np.float16).max:
                raise DataError(f"block {self._block} leaves the range of float16; unfreeze an earlier block")
            yield part.digests[:: spec.n_views], values.astype(np.float16)

    @property
    def _row_bytes(self) -> int:
        return self._dtype.itemsize * math.prod(self._shape)

    def _read_index(self) -> "_Known":
        """What is there.

        What a killed process left unfinished is not, nor are images whose rows a copy of the file lacks.
        """
        known = _Known({}, 0, 0)
        try:
            index, size = self._index.read_bytes(), self._path.stat().st_size
        except FileNotFoundError:
            return known
        lines = index[: index.rfind(b"\n") + 1].splitlines(keepends=True)
        if not lines:
            return known
        if lines[0] != HEADER:
            raise ModelError(f"{self._index} is not the index of a boundary that this featx can read; remove it")
        known.end = len(HEADER)
        for line in lines[1:]:
            entry = ENTRY.fullmatch(line)
            if not entry:
                raise ModelError(f"{self._index} is damaged at {line!r}; remove it")
            digest, views = entry[1].decode(), int(entry[2])
            if (known.rows + views) * self._row_bytes > size:
                break
            known.images[digest] = (known.rows, views)
            known.rows += views
            known.end += len(line)
        return known


@dataclass
class _Known:
    """First row and number of views of images by digest; all rows; and the bytes of the index that tell of them."""

    images: dict[str, tuple[int, int]]
    rows: int
    end: int

    def lacking(self, images: Mapping[str, str], views: int) -> dict[str, str]:
        """Those of images, digests by path, of which not all ``views`` are there; of equal ones the last alone."""
        lacking = {digest: path for path, digest in images.items() if self.images.get(digest, (0, 0))[1] < views}
        return {path: digest for digest, path in lacking.items()}


def _lines(digests: Iterable[str], views: int) -> bytes:
    return "".join(f"{digest} {views}\n" for digest in digests).encode()


def _check(
    known: Mapping[str, str], paths: Sequence[str], digests: Sequence[str], failures: Sequence[tuple[str, str]]
) -> None:
    if failures:
        path, reason = failures[0]
        raise DataError(f"{path} of the store cannot be trained on: {reason}; finetune reads images again, from files "
                        "below --root: give their folder, or update the store first")  # fmt: skip
    for path, digest in zip(paths, digests, strict=True):
        if digest != known[path]:
            raise DataError(f"{path} has changed since the store was made; update the store and fit the model again")
