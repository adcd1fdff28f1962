"""The readers that are attacked: for each what its inputs are made of, and how all of one is read."""

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from unittest import mock

import numpy as np

from featx.backbones.readers.formats import read_weights
from featx.extraction.existing_features import read_finished_parts
from featx.images.decoding.decoder import decode
from featx.images.pixels.augmentation import augmented_copies
from featx.images.sources.any_source import list_images
from featx.models.model_file import load_model
from featx.spec.extract_spec import ExtractSpec
from featx.store.part_folder import PartFolder
from featx.store.reader import Store
from fuzz import containers, seeds
from fuzz.mutators import mutate

Change = Callable[[bytes, random.Random, Sequence[bytes]], bytes]
_, RUN = seeds.part_seeds()
TENSOR_SHAPES = ("digest", "readers.formats", "readers.keras", "readers.onnx_graph", "readers.state_dicts")
PICTURE = ExtractSpec(size=32, n_views=2, augment="flip,rotate=30")
MAX_PIXELS = 1 << 20
"""Pixels of a picture: what takes seconds to decode would only be slow here."""


@dataclass(frozen=True)
class Kind:
    """One kind of input: valid ones, its suffix, and a change that knows the format, made to so many of them."""

    seeds: Callable[[], list[bytes]]
    suffix: str
    knowing: Change = mutate
    share: float = 0.0


@dataclass(frozen=True)
class Reader:
    """What reads a file, all of it; one of ``kinds`` is drawn for each input."""

    read: Callable[[Path], object]
    kinds: tuple[Kind, ...]


def read_store(path: Path) -> None:
    """All that a store has."""
    with Store(path) as store:
        for name in ("paths", "digests", "multilabel_targets", "targets", "view_index", "exif_rotated", "classes",
                     "columns", "failures", "reference_features"):  # fmt: skip
            getattr(store, name)
            if (
                name in ("paths", "digests", "targets", "view_index", "exif_rotated")
                and len(getattr(store, name)) != store.n_rows
            ):
                raise AssertionError(f"{name} is not of {store.n_rows} rows")
        rows, _ = store.image_table()
        list(rows.labels)
        store.read(store.spec.widths)


def read_part(path: Path) -> None:
    """A part file, or what a run wrote down first, where a run that goes on finds it."""
    folder = PartFolder(path.parent / "rows.h5")
    folder.path.mkdir(exist_ok=True)
    (folder.path / "0.part.h5").write_bytes(path.read_bytes())
    (folder.path / "run.h5").write_bytes(RUN)  # or no part is looked at
    try:
        with np.errstate(all="ignore"), mock.patch("warnings.warn"):
            read_finished_parts(folder)
        (folder.path / "run.h5").write_bytes(path.read_bytes())
        folder.load_run(seeds.SPEC)
    finally:
        folder.discard()


def read_model(path: Path) -> None:
    """A model, and what it says of features."""
    model = load_model(path)
    rows = np.linspace(-1, 1, 2 * model.spec.width, dtype=np.float32).reshape(2, -1)
    with np.errstate(all="ignore"):  # Weights of 1e308 are numbers too.
        for ask in (model.predict, model.decision, model.probabilities):
            ask(rows)


def read_backbone(path: Path) -> None:
    """A weights file of a backbone of one channel a layer: the real one takes 59 MB, and would be all numbers."""
    with _small_backbone():
        read_weights(path)


@contextmanager
def _small_backbone() -> Iterator[None]:
    patches = [mock.patch(f"featx.backbones.{module}.tensor_shapes", seeds.small_shapes) for module in TENSOR_SHAPES]
    for patch in patches:
        patch.start()
    try:
        yield
    finally:
        for patch in patches:
            patch.stop()


def read_manifest(path: Path) -> None:
    """What a manifest lists, and the first images of it."""
    listing = list_images(path)
    for row in range(min(3, len(listing))):
        try:
            listing.read(row)
        except (OSError, ValueError):  # Which `featx.images.loading` records.
            continue


def read_picture(path: Path) -> None:
    """A picture and its views."""
    picture = decode(path.read_bytes(), MAX_PIXELS, side=16)
    list(augmented_copies(picture.image, PICTURE, "ab" * 32))


READERS = {
    "store": Reader(read_store, (Kind(seeds.store_seeds, ".h5", containers.edit_hdf5, 0.5),)),
    "part": Reader(read_part, (Kind(seeds.part_seeds, ".h5", containers.edit_hdf5, 0.5),)),
    "model": Reader(read_model, (Kind(seeds.model_seeds, ".featx", containers.edit_model, 0.85),)),
    "weights": Reader(
        read_backbone,
        (
            Kind(seeds.safetensors_seeds, ".safetensors", containers.edit_safetensors, 0.5),
            Kind(seeds.torch_seeds, ".pth", containers.edit_zip, 0.4),
            Kind(seeds.keras_seeds, ".h5", containers.edit_hdf5, 0.4),
            Kind(seeds.archive_seeds, ".keras", containers.edit_zip, 0.7),
            Kind(seeds.onnx_seeds, ".onnx", containers.edit_onnx, 0.5),
        ),
    ),
    "manifest": Reader(
        read_manifest, (Kind(seeds.csv_seeds, ".csv"), Kind(seeds.parquet_seeds, ".parquet"))
    ),
    "images": Reader(read_picture, (Kind(seeds.picture_seeds, ".img"),)),
}  # fmt: skip


@cache
def seeds_of(reader: str) -> list[list[bytes]]:
    """The valid files of each kind of a reader."""
    return [kind.seeds() for kind in READERS[reader].kinds]


def make_input(reader: str, number: int) -> tuple[bytes, str]:
    """The input of that number, and its file's suffix."""
    rng = random.Random(f"{reader} {number}")
    at = rng.randrange(len(READERS[reader].kinds))
    kind, valid = READERS[reader].kinds[at], seeds_of(reader)[at]
    data = rng.choice(valid)
    if rng.random() < kind.share:
        try:
            return kind.knowing(data, rng, valid), kind.suffix
        except Exception:  # The libraries that write do not take everything; then bytes are changed.
            return mutate(data, rng, valid), kind.suffix
    return mutate(data, rng, valid), kind.suffix
