"""The readers under attack: the kinds of their inputs, and functions that read a whole input."""

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
AUGMENTED = ExtractSpec(size=32, n_views=2, augment="flip,rotate=30")
MAX_PIXELS = 1 << 20
"""Limit on the pixels of an image, because images that take seconds to decode only slow the fuzzer down."""


@dataclass(frozen=True)
class Kind:
    """A kind of input: valid files, their suffix, and a format-aware change that is made to a share of them."""

    seeds: Callable[[], list[bytes]]
    suffix: str
    edit: Change = mutate
    share: float = 0.0


@dataclass(frozen=True)
class Reader:
    """A function that reads a whole file, and the kinds of its inputs, one of which is drawn per input."""

    read: Callable[[Path], object]
    kinds: tuple[Kind, ...]


def read_store(path: Path) -> None:
    """Read everything in a store."""
    with Store(path) as store:
        for name in ("paths", "digests", "multilabel_targets", "targets", "view_index", "exif_rotated", "classes",
                     "columns", "failures", "reference_features"):  # fmt: skip
            getattr(store, name)
            if (
                name in ("paths", "digests", "targets", "view_index", "exif_rotated")
                and len(getattr(store, name)) != store.n_rows
            ):
                raise AssertionError(f"{name} does not have {store.n_rows} rows")
        rows, _ = store.image_table()
        list(rows.labels)
        store.read(store.spec.widths)


def read_part(path: Path) -> None:
    """Read a part file, and the same bytes as the file that records a run, as a resumed run does."""
    folder = PartFolder(path.parent / "rows.h5")
    folder.path.mkdir(exist_ok=True)
    (folder.path / "0.part.h5").write_bytes(path.read_bytes())
    (folder.path / "run.h5").write_bytes(RUN)  # without it, parts are ignored
    try:
        with np.errstate(all="ignore"), mock.patch("warnings.warn"):
            read_finished_parts(folder)
        (folder.path / "run.h5").write_bytes(path.read_bytes())
        folder.load_run(seeds.SPEC)
    finally:
        folder.discard()


def read_model(path: Path) -> None:
    """Read a model and predict with it."""
    model = load_model(path)
    rows = np.linspace(-1, 1, 2 * model.spec.width, dtype=np.float32).reshape(2, -1)
    with np.errstate(all="ignore"):  # weights of 1e308 overflow
        model.predict(rows)
        model.decision_function(rows)
        if model.has_probabilities:
            model.predict_proba(rows)


def read_backbone(path: Path) -> None:
    """Read weights of a backbone with one channel per layer, because the real one has 59 MB."""
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
    """Read a manifest and its first images."""
    listing = list_images(path)
    for row in range(min(3, len(listing))):
        try:
            listing.read(row)
        except (OSError, ValueError):  # `featx.images` records these as failures
            continue


def read_image(path: Path) -> None:
    """Decode an image and make its augmented copies."""
    decoded = decode(path.read_bytes(), MAX_PIXELS, side=16)
    list(augmented_copies(decoded.image, AUGMENTED, "ab" * 32))


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
    "images": Reader(read_image, (Kind(seeds.image_seeds, ".img"),)),
}  # fmt: skip


@cache
def seeds_of(reader: str) -> list[list[bytes]]:
    """Return the valid files of each kind of a reader."""
    return [kind.seeds() for kind in READERS[reader].kinds]


def make_input(reader: str, number: int) -> tuple[bytes, str]:
    """Return the input of a number, and the suffix of its file."""
    rng = random.Random(f"{reader} {number}")
    at = rng.randrange(len(READERS[reader].kinds))
    kind, valid = READERS[reader].kinds[at], seeds_of(reader)[at]
    data = rng.choice(valid)
    if rng.random() < kind.share:
        try:
            return kind.edit(data, rng, valid), kind.suffix
        except Exception:  # The libraries cannot write every change; then bytes are changed instead.
            return mutate(data, rng, valid), kind.suffix
    return mutate(data, rng, valid), kind.suffix
