"""Measure thingsvision: ``extract_features`` of the last layer of VGG16, with random weights.

It runs in a separate environment. thingsvision keeps the whole feature maps of all images in memory. Those of five
blocks would take 6 MB per image, so only the last block is extracted.
"""

import contextlib
import sys
import warnings

warnings.simplefilter("ignore")

import h5py
import torch
from thingsvision import get_extractor
from thingsvision.utils.data import DataLoader, ImageDataset
from worker import BATCH, SIZE, serve

LAST = "features.30"
# thingsvision prints to standard output, which this process needs for its answers.
with contextlib.redirect_stdout(sys.stderr):
    extractor = get_extractor("vgg16", source="torchvision", device="cpu", pretrained=False)


def features(batches):
    with contextlib.redirect_stdout(sys.stderr):
        return extractor.extract_features(batches=batches, module_name=LAST, flatten_acts=False, output_type="ndarray")


def backbone(count):
    features(list(torch.rand(count, 3, SIZE, SIZE).split(BATCH)))


def store(photos, output):
    folder = output / "thingsvision"
    folder.mkdir(exist_ok=True)
    for link in folder.iterdir():
        link.unlink()
    for number, path in enumerate(photos):
        (folder / f"{number:06}.jpg").symlink_to(path.resolve())
    with contextlib.redirect_stdout(sys.stderr):
        dataset = ImageDataset(
            root=str(folder), out_path=str(output), backend="pt", transforms=extractor.get_transformations()
        )
    found = features(DataLoader(dataset=dataset, batch_size=BATCH, backend="pt"))
    with h5py.File(output / "thingsvision.h5", "w") as file:
        file["block5_avg"] = found.mean((2, 3))


serve(backbone, store)
