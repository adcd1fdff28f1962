"""Shared fixtures: drawn images, the real weights, and the photographs of Flowers-17 if they are available."""

import csv
import errno
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from featx.backbones import loading
from featx.backbones.loading import load_backbone
from featx.backbones.registry import BackboneWeights
from featx.extraction import extract
from featx.models.fit_options import FitOptions
from featx.models.fitting import fit
from featx.spec.extract_spec import ExtractSpec

CLASSES = ("blue", "green", "red")
HOSTILE_CLASS = "<script>alert(1)</script>"
HOSTILE_FILE = """'"><img src=x onerror=alert(2)>.png"""
SPEC = ExtractSpec(size=32, pools=("avg", "max"))


if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # In background jobs of a shell and under nohup, SIGINT is ignored, and commands that tests interrupt inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """With ``-m core``, leave out the other test files before they are imported: they may import missing extras."""
    if config.option.markexpr != "core" or not collection_path.match("test_*.py"):
        return None
    return None if "pytest.mark.core" in collection_path.read_text(encoding="utf-8") else True


@contextmanager
def failing_disk(target: Path) -> Iterator[None]:
    """Let the disk fail when a finished file is renamed to ``target``."""
    rename = os.replace

    def fail(source: str | Path, destination: str | Path) -> None:
        if Path(destination) == Path(target):
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(destination))
        rename(source, destination)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "replace", fail)
        yield


@pytest.fixture(scope="session", autouse=True)
def weights_read_once() -> Iterator[None]:
    """Read and hash each file of the weights cache once per session: tests load the same 59 MB some thousand times."""
    read = loading.read_cached
    known: dict[tuple[str, int, int], BackboneWeights] = {}

    def remember(name: str) -> BackboneWeights:
        path = loading.cached_file(name)
        if not path.is_file():
            return read(name)
        key = (str(path), path.stat().st_mtime_ns, path.stat().st_size)
        if key not in known:
            known[key] = read(name)
        return known[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loading, "read_cached", remember)
        yield


@pytest.fixture(scope="session")
def oxford() -> BackboneWeights:
    """The real weights, downloaded once into the cache of the user."""
    return load_backbone("oxford")


def draw(color: int, seed: int, size: tuple[int, int] = (48, 40)) -> Image.Image:
    """Draw a noisy image whose channel ``color`` (2 blue, 1 green, 0 red) is the brightest."""
    pixels = np.random.default_rng(seed).integers(0, 100, (*size, 3), dtype=np.uint8)
    pixels[..., color] += 120
    return Image.fromarray(pixels)


def fill(folder: Path, each: int = 8, first: int = 0) -> Path:
    """Write a folder of images, one sub-folder per class; another ``first`` gives different images."""
    for code, name in enumerate(CLASSES):
        (folder / name).mkdir(parents=True)
        for number in range(each):
            draw(2 - code, first + 100 * code + number).save(folder / name / f"{number}.png")
    return folder


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of three classes with eight images each."""
    return fill(tmp_path / "photos")


@pytest.fixture(scope="session")
def shared_photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of three classes with twelve images each, for the whole session; do not change it."""
    return fill(tmp_path_factory.mktemp("shared") / "photos", each=12)


@pytest.fixture(scope="session")
def shared_store(shared_photos: Path, oxford: BackboneWeights) -> Path:
    """A store of the shared images: all blocks, avg and max, 32 px; do not change it."""
    path = shared_photos.parent / "photos.h5"
    extract(shared_photos, path, SPEC)
    return path


FINETUNE_SPEC = ExtractSpec(size=32, blocks=(3, 4, 5), pools=("avg", "max"), n_views=3, augment="flip,translate=0.1")


@pytest.fixture(scope="session")
def finetune_folder(tmp_path_factory: pytest.TempPathFactory, oxford: BackboneWeights) -> Path:
    """``photos``, ``photos.h5`` with three copies of each image, and the head ``photos.featx``; do not change it."""
    folder = tmp_path_factory.mktemp("finetune")
    fill(folder / "photos", each=12)
    extract(folder / "photos", folder / "photos.h5", FINETUNE_SPEC)
    fit(folder / "photos.h5", folder / "photos.featx", head="softmax", blocks=(3, 4, 5), C=1.0)
    return folder


@pytest.fixture(scope="session")
def hostile_model(tmp_path_factory: pytest.TempPathFactory, oxford: BackboneWeights) -> Path:
    """A model in one folder with its store and its images, for the whole session; do not change it.

    Two test images of red have the label green, so they are misclassified. The names of a class and of a file are HTML
    that would run if it were not escaped.
    """
    folder = tmp_path_factory.mktemp("hostile")
    rows = ["path,label,split"]
    for code, name in enumerate((HOSTILE_CLASS, "green", "red")):
        (folder / "images").mkdir(exist_ok=True)
        for number in range(14):
            file = HOSTILE_FILE if name == "red" and number == 0 else f"{code}-{number}.png"
            draw(2 - code, 100 * code + number).save(folder / "images" / file)
            label = "green" if name == "red" and number in (0, 1) else name
            quoted = file.replace('"', '""')
            rows.append(f'"{quoted}","{label}",{"test" if number < 4 else "train"}')
    (folder / "rows.csv").write_text("\n".join(rows))
    extract(folder / "rows.csv", folder / "photos.h5", ExtractSpec(size=32), root=folder / "images")
    fit(
        folder / "photos.h5",
        folder / "photos.featx",
        head="linear-svc",
        C=1,
        blocks=(1, 2),
        options=FitOptions(calibrate=True),
    )
    return folder / "photos.featx"


@pytest.fixture(scope="session")
def flowers() -> Path:
    """The folder of Flowers-17: ``jpg/`` and ``splits.csv``."""
    beside = Path(__file__).parents[2] / "shared" / "data" / "flowers17"
    folder = Path(os.environ.get("FEATX_FLOWERS17", beside))
    if not (folder / "splits.csv").is_file():
        pytest.skip("Flowers-17 was not found: set FEATX_FLOWERS17 to its folder")
    return folder


@pytest.fixture(scope="session")
def flower_paths(flowers: Path) -> list[str]:
    """Thirty-two photographs of Flowers-17, from all classes."""
    with (flowers / "splits.csv").open() as file:
        paths = [str(flowers / "jpg" / row["path"]) for row in csv.DictReader(file)]
    return paths[:: len(paths) // 32][:32]
