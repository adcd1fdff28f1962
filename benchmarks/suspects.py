"""Check the findings of `featx suspects` and `featx audit` on the photographs of Flowers-17.

    python benchmarks/suspects.py flipped FLOWERS17 WORK

FLOWERS17 contains ``jpg/`` and ``splits.csv``; WORK keeps the stores for later commands and
for evidence.py.
"""

import csv
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import numpy as np
from evidence import store_of
from PIL import ExifTags, Image, ImageOps
from reporting import run_claim, say

from featx.cli.audit import table
from featx.drawing import save_image
from featx.extraction import extract
from featx.inspection import audit, draw_suspects, suspects
from featx.inspection.preprocessing_audit.mistakes import MISTAKES
from featx.inspection.preprocessing_audit.report import AuditReport
from featx.spec import ExtractSpec
from featx.store import Store

DRAWS = 5
COPIES = 20
SAMPLE = 340
Row = dict[str, str]
COPY: dict[str, Callable[[Image.Image], Image.Image]] = {
    "re-encoded": lambda image: image,
    "resized": lambda image: image.resize((image.width * 2 // 5, image.height * 2 // 5), Image.Resampling.BICUBIC),
    "mirrored": ImageOps.mirror,
}
ROTATED = {3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}
"""For each EXIF orientation, the rotation of the pixels that a phone stores."""


def flipped(flowers: Path, work: Path) -> None:
    """Flip 5 % of the labels at random, and count them among the first 50 suspects."""
    base = store_of(flowers, work, "default224", ExtractSpec())
    for seed in range(DRAWS):
        store = shutil.copy(base, work / "flipped.h5")
        with Store(base) as opened:
            paths, labels, classes = np.array(opened.paths, object), opened.labels, len(opened.classes)
        generator = np.random.default_rng(seed)
        wrong = generator.choice(len(labels), round(0.05 * len(labels)), replace=False)
        labels[wrong] = (labels[wrong] + generator.integers(1, classes, len(wrong))) % classes
        with h5py.File(store, "r+") as file:
            file["rows/label"][:] = labels
        began = time.monotonic()
        found = suspects(store)
        hits = np.isin([item.path for item in found.mislabeled], paths[wrong])
        say(
            f"draw {seed}: {len(wrong)} labels flipped, {len(hits)} suspects, {hits.sum()} of them flipped; precision "
            f"of the first {len(hits[:50])}: {hits[:50].mean():.2f}; {time.monotonic() - began:.1f} s"
        )


def copies(flowers: Path, work: Path) -> None:
    """Add 20 encoded, resized or mirrored copies of training images to the test images, and count those found."""
    base = store_of(flowers, work, "default224", ExtractSpec())
    with (flowers / "splits.csv").open() as file:
        rows = list(csv.DictReader(file))
    root = work / "with-copies"
    root.mkdir(exist_ok=True)
    for folder in (flowers / "jpg").resolve().iterdir():
        if not (root / folder.name).is_symlink():
            (root / folder.name).symlink_to(folder)
    for seed in range(DRAWS):
        planted = list(_plant(rows, root, f"copies-{seed}", seed))
        manifest = work / "copies.csv"
        with manifest.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows([*rows, *(copy for _, _, copy in planted)])
        store = Path(shutil.copy(base, work / "copies.h5"))
        extract(manifest, store, ExtractSpec(), root=root)
        found = suspects(store, split_column="split_0")
        pairs = {frozenset((item.first, item.second)): item for item in found.near_duplicates if item.split_columns}
        hits = [(kind, frozenset((own["path"], copy["path"])) in pairs) for kind, own, copy in planted]
        by_kind = {kind: [hit for each, hit in hits if each == kind] for kind in COPY}
        kinds = ", ".join(f"{sum(values)} of {len(values)} {kind}" for kind, values in by_kind.items())
        say(f"draw {seed}: {sum(hit for _, hit in hits)} of {len(hits)} found across split_0 ({kinds})")


def _plant(rows: list[Row], root: Path, folder: str, seed: int) -> Iterator[tuple[str, Row, Row]]:
    """Copy training photographs as test images, and yield (kind, row of the original, row of the copy)."""
    (root / folder).mkdir(exist_ok=True)
    train = [row for row in rows if row["split_0"] == "train"]
    generator = np.random.default_rng(seed)
    for number, index in enumerate(generator.choice(len(train), COPIES, replace=False)):
        own, kind = train[index], list(COPY)[number % len(COPY)]
        path = f"{folder}/{Path(own['path']).stem}-{kind}.jpg"
        quality = 40 if kind == "re-encoded" else 85
        COPY[kind](Image.open(root / own["path"]).convert("RGB")).save(root / path, quality=quality)
        yield kind, own, {**own, "path": path, "split_0": "test"}


def untouched(flowers: Path, work: Path) -> None:
    """Count the suspects among the original photographs, and draw a sheet of them."""
    store = store_of(flowers, work, "default224", ExtractSpec())
    began = time.monotonic()
    found = suspects(store)
    say(f"{time.monotonic() - began:.1f} s; near-duplicates have a cosine of {found.min_cosine:.3f} or more")
    cosines = np.array([pair.cosine for pair in found.near_duplicates])
    say(
        f"{len(cosines)} pairs, {(cosines > 0.999).sum()} of them above 0.999; "
        f"across splits: {found.pairs_across_splits}"
    )
    say(f"{len(found.mislabeled)} probably mislabeled, {len(found.outliers)} outliers")
    save_image(draw_suspects(found, flowers / "jpg", len(cosines)), work / "untouched.png", "WORK")


def mistakes(flowers: Path, work: Path) -> None:
    """Measure the accuracy that each mistake costs on 340 photographs. For EXIF, a third of the files are rotated."""
    _say(audit(flowers / "splits.csv", root=flowers / "jpg", images=SAMPLE))
    rotated = work / "rotated"
    for number, path in enumerate(sorted((flowers / "jpg").rglob("*.jpg"))):
        target = rotated / path.parent.name / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        image, exif = Image.open(path), Image.Exif()
        if number % 3 == 0:
            exif[ExifTags.Base.Orientation] = list(ROTATED)[number // 3 % len(ROTATED)]
            image = image.transpose(ROTATED[exif[ExifTags.Base.Orientation]])
        image.save(target, quality=95, exif=exif)
    _say(audit(rotated, images=SAMPLE, mistakes=[mistake for mistake in MISTAKES if not mistake.upright]))


def _say(report: AuditReport) -> None:
    say("\n".join(table(report)))


CLAIMS: dict[str, Callable[[Path, Path], None]] = {
    "flipped": flipped,
    "copies": copies,
    "untouched": untouched,
    "mistakes": mistakes,
}

if __name__ == "__main__":
    run_claim(CLAIMS)
