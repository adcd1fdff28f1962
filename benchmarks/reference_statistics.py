"""Make reference.json, the feature statistics of photographs. ``featx advise`` compares images with them.

    python benchmarks/reference_statistics.py FLOWERS17 WORK

The statistics are those of every fourth photograph of Flowers-17, at four sizes. The script then prints the distances
of other images: crops of the sample images of scikit-learn and, if installed, scikit-image. The threshold of
similarity was chosen by these distances.
"""

import csv
import json
import sys
from pathlib import Path

import numpy as np
from PIL import Image
from reporting import say
from sklearn.datasets import load_sample_images

from featx.backbones import BLOCK_NUMBERS, feature_name
from featx.curation import load_features
from featx.extraction import extract
from featx.inspection.advice import similarity
from featx.inspection.advice.similarity import POOL, distances_from_photographs, feature_statistics
from featx.runtime import Compute
from featx.spec import ExtractSpec
from featx.store import Store

SIZES = (64, 128, 224, 384)
EVERY = 4
CROPS = 12
THINGS = ("astronaut.png", "chelsea.png", "coffee.png", "motorcycle_left.png", "rocket.jpg")
OTHER = ("brick.png", "camera.png", "cell.png", "coins.png", "gravel.png", "hubble_deep_field.jpg", "ihc.png",
         "page.png", "retina.jpg", "text.png")  # fmt: skip


def make_reference(flowers: Path, work: Path) -> dict[str, object]:
    """Compute the feature statistics by image size and block."""
    with (flowers / "splits.csv").open() as file:
        paths = sorted(row["path"] for row in csv.DictReader(file))[::EVERY]
    manifest = work / "reference.csv"
    manifest.write_text("\n".join(["path", *paths]))
    sizes = {}
    for size in SIZES:
        target = work / f"reference-{size}.h5"
        extract(manifest, target, ExtractSpec(size=size), Compute(progress=True), root=flowers / "jpg")
        with Store(target) as store:
            digest = store.spec.backbone_digest
            sizes[str(size)] = {str(b): feature_statistics(store.read([feature_name(b, POOL)])) for b in BLOCK_NUMBERS}
    what = f"every {EVERY}th photograph of Flowers-17, {len(paths)} of 17 kinds"
    return {"photographs": what, "backbone_digest": digest, "sizes": sizes}


def write_crops(folder: Path) -> None:
    """Write square crops of the sample images, one folder per image."""
    images = dict(zip(("china", "flower"), map(Image.fromarray, load_sample_images().images), strict=True))
    try:
        import skimage
    except ModuleNotFoundError:
        say("scikit-image is not installed: only the two photographs of scikit-learn are used")
    else:
        samples = Path(skimage.__file__).parent / "data"
        images |= {name.split(".")[0]: Image.open(samples / name).convert("RGB") for name in (*THINGS, *OTHER)}
    rng = np.random.default_rng(0)
    for name, image in images.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number in range(CROPS):
            side = int(rng.uniform(0.6, 1) * min(image.size))
            left, top = rng.integers(0, image.width - side + 1), rng.integers(0, image.height - side + 1)
            image.crop((left, top, left + side, top + side)).save(folder / name / f"{number}.png")


def check(work: Path) -> None:
    """Print the distance of the crops of each sample image, and that of all photographs of objects together."""
    crops = work / "crops"
    write_crops(crops)
    for size in (64, 224):
        extract(crops, work / f"crops-{size}.h5", ExtractSpec(size=size), Compute(progress=True), overwrite=True)
        data = load_features(work / f"crops-{size}.h5")
        labels = data.target_names[data.target]
        things = ["china", "flower", *(name.split(".")[0] for name in THINGS)]
        for name, members in {"all things": things, **{name: [name] for name in data.target_names}}.items():
            found = distances_from_photographs(data.spec, data.data[np.isin(labels, members)])
            listed = " ".join(f"{value:.2f}" for value in found.values())
            say(f"{size} px, {name}: mean {np.mean(list(found.values())):.2f} ({listed})")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: reference_statistics.py FLOWERS17 WORK")
    flowers, work = map(Path, sys.argv[1:])
    work.mkdir(parents=True, exist_ok=True)
    target = Path(similarity.__file__).with_name("reference.json")
    target.write_text(json.dumps(make_reference(flowers, work)) + "\n")
    say(f"{target}: {target.stat().st_size} bytes")
    check(work)
