"""Draw a sample of images, and compute its features with correct preprocessing and with each mistake."""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from featx.engines import Engine
from featx.errors import ImageError
from featx.heads import combine_groups
from featx.images import Listing
from featx.inspection.preprocessing_audit.mistakes import NO_MISTAKE, PreprocessingMistake
from featx.runtime import pluralize
from featx.spec import ExtractSpec

IMAGES_AT_ONCE = 64
"""Images in memory at the same time."""

Part = tuple[NDArray[np.float32], NDArray[np.bool_]]
"""Features (images, columns), and for each image whether the mistake changes it (images,)."""


@dataclass(frozen=True, eq=False)
class SampleFeatures:
    """The images of a sample that could be read, and their features with each mistake.

    Parameters
    ----------
    rows : int array (images,)
        Rows of the images in their listing.
    groups : int array (images,)
        Group numbers. Files with equal bytes, and images with equal values in the column ``group`` of their listing,
        have equal numbers.
    features : dict
        float32 arrays (images, columns) by the name of the mistake. The correct features have the name ``correct``.
    changed : dict
        bool arrays (images,) by the name of the mistake. True if the input of the backbone differs from the correct
        input.
    failed : tuple of (path, reason)
        Images that could not be read.
    """

    rows: NDArray[np.intp]
    groups: NDArray[np.intp]
    features: dict[str, NDArray[np.float32]]
    changed: dict[str, NDArray[np.bool_]]
    failed: tuple[tuple[str, str], ...]

    @property
    def correct(self) -> NDArray[np.float32]:
        """The features with correct preprocessing."""
        return self.features[NO_MISTAKE.name]


def draw_sample(labels: NDArray[np.int64], images: int, random_state: int) -> NDArray[np.intp]:
    """Draw rows at random, with equal numbers from each class if possible. Return the rows sorted."""
    shuffled = np.random.default_rng(random_state).permutation(len(labels))
    order = shuffled[np.argsort(labels[shuffled], kind="stable")]
    _, first, counts = np.unique(labels[order], return_index=True, return_counts=True)
    rank_in_class = np.arange(len(order)) - np.repeat(first, counts)
    return np.sort(order[np.argsort(rank_in_class, kind="stable")[:images]])


def extract_sample(
    listing: Listing,
    rows: NDArray[np.intp],
    mistakes: Sequence[PreprocessingMistake],
    spec: ExtractSpec,
    make_engine: Callable[[ExtractSpec], Engine],
    max_pixels: int,
    advance: Callable[[int], object],
) -> SampleFeatures:
    """Compute the features of each image with each mistake.

    If a mistake does not change an image, the image has the correct features.

    Parameters
    ----------
    listing : Listing
    rows : int array (images,)
        Rows of the sample in the listing.
    mistakes : sequence of PreprocessingMistake
    spec : ExtractSpec
        The correct spec.
    make_engine : callable
        Makes the engine for a spec.
    max_pixels : int
        Largest image that is decoded.
    advance : callable
        Called with the number of images that were done.

    Raises
    ------
    ImageError
        If no image can be read.
    """
    engines = {mistake.wrong_spec(spec): make_engine(mistake.wrong_spec(spec)) for mistake in (NO_MISTAKE, *mistakes)}
    read: list[int] = []
    digests: list[bytes] = []
    failed: list[tuple[str, str]] = []
    parts: dict[str, list[Part]] = {}
    for first in range(0, len(rows), IMAGES_AT_ONCE):
        chunk = rows[first : first + IMAGES_AT_ONCE].tolist()
        files = list(_read_files(listing, chunk, spec, max_pixels, failed))
        if files:
            for name, part in _compute_parts(files, mistakes, spec, engines, max_pixels):
                parts.setdefault(name, []).append(part)
        read += [file.row for file in files]
        digests += [hashlib.sha256(file.data).digest() for file in files]
        advance(len(chunk))
    if not read:
        raise ImageError(f"none of the {pluralize(len(rows), 'image')} drawn can be read; {': '.join(failed[0])}")
    return SampleFeatures(
        rows=np.array(read, np.intp),
        groups=_group_images(listing, np.array(read), digests),
        features={name: np.concatenate([features for features, _ in found]) for name, found in parts.items()},
        changed={name: np.concatenate([changed for _, changed in found]) for name, found in parts.items()},
        failed=tuple(failed),
    )


def _group_images(listing: Listing, rows: NDArray[np.intp], digests: Sequence[bytes]) -> NDArray[np.intp]:
    column = listing.columns.get("group")
    return combine_groups(np.array(digests), None if column is None else list(column.take(rows)))


@dataclass(frozen=True, eq=False)
class _ImageFile:
    """An image file: its row in the listing, its bytes, and its pixels with correct preprocessing."""

    row: int
    data: bytes
    pixels: NDArray[np.uint8]


def _read_files(
    listing: Listing, rows: Sequence[int], spec: ExtractSpec, max_pixels: int, failed: list[tuple[str, str]]
) -> Iterator[_ImageFile]:
    """Yield the files that can be read. Add the others to ``failed``."""
    for row in rows:
        try:
            data = listing.read(row)
            yield _ImageFile(row, data, NO_MISTAKE.load_pixels(data, spec, max_pixels))
        except (OSError, ValueError) as error:
            failed.append((listing.paths[row], str(error)))


def _compute_parts(
    files: Sequence[_ImageFile],
    mistakes: Sequence[PreprocessingMistake],
    spec: ExtractSpec,
    engines: Mapping[ExtractSpec, Engine],
    max_pixels: int,
) -> Iterator[tuple[str, Part]]:
    """Yield the name of each mistake with its features and changed images. The correct features come first."""
    correct_pixels = np.stack([file.pixels for file in files])
    correct = _run_engine(engines[spec], correct_pixels)
    yield NO_MISTAKE.name, (correct, np.zeros(len(files), bool))
    for mistake in mistakes:
        pixels = correct_pixels
        if not mistake.keeps_pixels:
            pixels = np.stack([mistake.load_pixels(file.data, spec, max_pixels) for file in files])
        wrong_spec = mistake.wrong_spec(spec)
        changed = (pixels != correct_pixels).any(axis=(1, 2, 3)) | (wrong_spec != spec)
        features = correct.copy()
        if changed.any():
            features[changed] = _run_engine(engines[wrong_spec], pixels[changed])
        yield mistake.name, (features, changed)


def _run_engine(engine: Engine, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Compute all features, side by side (images, columns)."""
    return np.concatenate(list(engine(pixels).values()), axis=1)
