"""thingsvision: ``extract_features`` of VGG16's last pooling, in an environment of its own; weights at random.

It keeps every tap of every image in memory, unpooled: all five would be 6 MB an image, so it is asked for the last.
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
# What it prints would stand among the answers.
with contextlib.redirect_stdout(sys.stderr):
    extractor = get_extractor("vgg16", source="torchvision", device="cpu", pretrained=False)


def features(batches):
    with contextlib.redirect_stdout(sys.stderr):
        return extractor.extract_features(batches=batches, module_name=LAST, flatten_acts=False, output_type="ndarray")


def backbone(count):
    features(list(torch.rand(count, 3, SIZE, SIZE).split(BATCH)))


def whole(photos, output):
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


serve(backbone, whole)
