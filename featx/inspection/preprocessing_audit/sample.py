"""A sample of images, and its features by the declared preprocessing and by each mistake."""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from featx.engines import Engine
from featx.errors import ImageError
from featx.images import Listing
from featx.inspection.preprocessing_audit.mistakes import DECLARED, Mistake
from featx.runtime import pluralize
from featx.spec import ExtractSpec

CHUNK = 64
"""Images that are in memory at once, each in all its variants."""


@dataclass(frozen=True, eq=False)
class Variants:
    """The images that could be read, by number in their listing, and their features by each mistake.

    ``features`` are float32 (images, columns) by name, the right ones as ``declared``; ``changed`` bool (images,) says
    where the backbone was given something else. ``groups`` are equal for files of equal bytes.
    """

    rows: NDArray[np.intp]
    groups: NDArray[np.intp]
    features: dict[str, NDArray[np.float32]]
    changed: dict[str, NDArray[np.bool_]]
    failed: tuple[tuple[str, str], ...]

    @property
    def right(self) -> NDArray[np.float32]:
        """The features by the declared preprocessing."""
        return self.features[DECLARED.name]


def draw_rows(labels: NDArray[np.int64], images: int, seed: int) -> NDArray[np.intp]:
    """Sorted rows of a random sample with as many of each class as there are, or as are needed."""
    shuffled = np.random.default_rng(seed).permutation(len(labels))
    order = shuffled[np.argsort(labels[shuffled], kind="stable")]
    _, first, counts = np.unique(labels[order], return_index=True, return_counts=True)
    place_in_class = np.arange(len(order)) - np.repeat(first, counts)
    return np.sort(order[np.argsort(place_in_class, kind="stable")[:images]])


def compute_variants(
    listing: Listing,
    rows: NDArray[np.intp],
    mistakes: Sequence[Mistake],
    spec: ExtractSpec,
    make: Callable[[ExtractSpec], Engine],
    max_pixels: int,
    advance: Callable[[int], object] = int,
) -> Variants:
    """Run the backbone on each image by each mistake, where that makes a difference.

    ``make`` gives the engine of a spec; ``advance`` is called with the number of images that are done.

    Raises
    ------
    ImageError
        If no image can be read.
    """
    engines = {wrong.spec(spec): make(wrong.spec(spec)) for wrong in (DECLARED, *mistakes)}
    read: list[int] = []
    digests: list[bytes] = []
    failed: list[tuple[str, str]] = []
    parts: dict[str, list[tuple[NDArray[np.float32], NDArray[np.bool_]]]] = {}
    for first in range(0, len(rows), CHUNK):
        chunk = rows[first : first + CHUNK].tolist()
        files = list(_read(listing, chunk, spec, max_pixels, failed))
        if files:
            for name, part in _compute(files, mistakes, spec, engines, max_pixels):
                parts.setdefault(name, []).append(part)
        read += [file.row for file in files]
        digests += [hashlib.sha256(file.data).digest() for file in files]
        advance(len(chunk))
    if not read:
        raise ImageError(f"none of the {pluralize(len(rows), 'image')} drawn can be read; {': '.join(failed[0])}")
    return Variants(
        rows=np.array(read, np.intp),
        groups=np.unique(np.array(digests), return_inverse=True)[1],
        features={name: np.concatenate([features for features, _ in found]) for name, found in parts.items()},
        changed={name: np.concatenate([changed for _, changed in found]) for name, found in parts.items()},
        failed=tuple(failed),
    )


@dataclass(frozen=True, eq=False)
class _File:
    """One image file: its number, its bytes, and its pixels by the declared preprocessing."""

    row: int
    data: bytes
    pixels: NDArray[np.uint8]


def _read(
    listing: Listing, rows: Sequence[int], spec: ExtractSpec, max_pixels: int, failed: list[tuple[str, str]]
) -> Iterator[_File]:
    """The files that can be read; the others are added to ``failed``."""
    for row in rows:
        try:
            data = listing.read(row)
            yield _File(row, data, DECLARED.prepare(data, spec, max_pixels))
        except (OSError, ValueError) as error:
            failed.append((listing.paths[row], str(error)))


def _compute(
    files: Sequence[_File],
    mistakes: Sequence[Mistake],
    spec: ExtractSpec,
    engines: Mapping[ExtractSpec, Engine],
    max_pixels: int,
) -> Iterator[tuple[str, tuple[NDArray[np.float32], NDArray[np.bool_]]]]:
    """By name, features and where they are others than the declared ones, which come first."""
    declared = np.stack([file.pixels for file in files])
    right = _run(engines[spec], declared)
    yield DECLARED.name, (right, np.zeros(len(files), bool))
    for wrong in mistakes:
        pixels = declared
        if not wrong.same_pixels:
            pixels = np.stack([wrong.prepare(file.data, spec, max_pixels) for file in files])
        changed = (pixels != declared).any(axis=(1, 2, 3)) | (wrong.spec(spec) != spec)
        features = right.copy()
        if changed.any():
            features[changed] = _run(engines[wrong.spec(spec)], pixels[changed])
        yield wrong.name, (features, changed)


def _run(engine: Engine, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Features side by side, (images, columns)."""
    return np.concatenate(list(engine(pixels).values()), axis=1)
