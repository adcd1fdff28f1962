"""What the frozen layers give, computed once and kept on disk: images, or the output of the last frozen block."""

import dataclasses
import hashlib
import json
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from featx.atomic import blaming, replacing
from featx.blocks import BLOCKS, feature_name
from featx.engines import Engine
from featx.engines.streaming import feature_parts
from featx.errors import DataError, ModelError
from featx.images import list_images
from featx.images.loading import load_images
from featx.progress import progress_bar
from featx.spec import ExtractSpec


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
    """Rows of activations (rows, channels, height, width) in one file: float16, or uint8 for images.

    Rows go by image, then by view. A run that was stopped goes on after its last finished part. ``images`` are paths
    with the sha256 of their files' bytes.
    """

    def __init__(self, path: Path, spec: ExtractSpec, block: int, images: Mapping[str, str]) -> None:
        self._path, self._spec, self._block, self._images = path, spec, block, dict(images)
        self._state = path.with_suffix(".json")
        self._dtype = np.dtype(np.float16 if block else np.uint8)
        self._shape = (len(self._images) * spec.views, *boundary_shape(spec, block))

    @property
    def rows(self) -> np.ndarray:
        """All rows, mapped into memory and not to be changed."""
        return np.memmap(self._path, self._dtype, "r", shape=self._shape)

    def of(self, paths: Iterable[str], views: int) -> Selected:
        """The rows of the first ``views`` of some of its images, at most those of its spec; by image, then by view."""
        order = {path: number for number, path in enumerate(self._images)}
        first = np.array([order[path] for path in paths]) * self._spec.views
        return Selected(self.rows, (first[:, None] + np.arange(views)).ravel())

    def fill(self, make: Callable[[ExtractSpec], Engine], root: Path, workers: int, *, progress: bool) -> None:
        """Compute what is not there yet.

        Raises
        ------
        DataError
            If an image cannot be read, or has changed.
        ModelError
            If the disk does not take it.
        """
        done = self._done()
        if done == len(self._images):
            return
        pending = list(self._images)[done:]
        image_bytes = math.prod((self._dtype.itemsize, self._spec.views, *self._shape[1:]))
        # Not through mapped memory: a disk that is full would end the process there.
        with (
            blaming(self._path, ModelError),
            self._path.open("r+b" if done else "wb") as file,
            progress_bar(len(pending), "image", "frozen layers", shown=progress) as bar,
        ):
            file.seek(done * image_bytes)
            for rows in self._compute(make, pending, root, workers):
                file.write(rows.tobytes())
                file.flush()
                os.fsync(file.fileno())
                count = len(rows) // self._spec.views
                done += count
                with replacing(self._state, ModelError) as temporary:
                    temporary.write_text(json.dumps({**self._identity, "done": done}))
                bar.update(count)

    def _compute(
        self, make: Callable[[ExtractSpec], Engine], paths: Sequence[str], root: Path, workers: int
    ) -> Iterator[np.ndarray]:
        listing = list_images(paths, root)
        if self._block == 0:
            for image in load_images(listing, range(len(listing)), self._spec, workers):
                self._check([image.path], [image.digest], [(image.path, image.reason)] if image.reason else [])
                yield np.stack(image.views).transpose(0, 3, 1, 2)
            return
        name = feature_name(self._block, "flat")
        for part in feature_parts(make(boundary_spec(self._spec, self._block)), listing, range(len(listing)), workers):
            self._check(part.paths, part.digests, part.failures)
            values = part.features[name].reshape(-1, *self._shape[1:])
            if values.max(initial=0) > np.finfo(np.float16).max:
                raise DataError(f"block {self._block} leaves the range of float16; unfreeze an earlier block")
            yield values.astype(np.float16)

    @property
    def _identity(self) -> dict[str, object]:
        listed = json.dumps(self._images, sort_keys=True)
        return {"spec": self._spec.digest, "block": self._block, "images": hashlib.sha256(listed.encode()).hexdigest()}

    def _check(self, paths: Sequence[str], digests: Sequence[str], failures: Sequence[tuple[str, str]]) -> None:
        if failures:
            path, reason = failures[0]
            raise DataError(f"{path}, of which the store has a row, cannot be read: {reason}; update the store first")
        for path, digest in zip(paths, digests, strict=True):
            if digest != self._images[path]:
                raise DataError(
                    f"{path} has changed since the store was made; update the store and fit the model again"
                )

    def _done(self) -> int:
        try:
            state = json.loads(self._state.read_text())
        except (OSError, ValueError):
            return 0
        same = {name: state.get(name) for name in self._identity} == self._identity
        return int(state["done"]) if same and self._path.exists() else 0
