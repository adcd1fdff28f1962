"""Measure torchvision: ``create_feature_extractor`` for the five blocks, in eager mode, with a ``DataLoader``."""

import h5py
import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision.models import vgg16
from torchvision.models.feature_extraction import create_feature_extractor
from torchvision.transforms import v2
from worker import BATCH, SIZE, serve

NODES = {f"features.{layer}": f"block{number}" for number, layer in enumerate((4, 9, 16, 23, 30), start=1)}
extractor = create_feature_extractor(vgg16(weights=None).eval(), NODES)
transform = v2.Compose([
    v2.PILToTensor(), v2.Resize((SIZE, SIZE), antialias=True), v2.ToDtype(torch.float32, scale=True),
    v2.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
])  # fmt: skip


class Photos(Dataset):
    def __init__(self, paths):
        self.paths = paths

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, index):
        return transform(Image.open(self.paths[index]).convert("RGB"))


@torch.inference_mode()
def features(batch):
    return {name: values.mean((2, 3)).numpy() for name, values in extractor(batch).items()}


def backbone(count):
    pixels = torch.rand(count, 3, SIZE, SIZE)
    for batch in pixels.split(BATCH):
        features(batch)


def store(photos, output):
    batches = [features(batch) for batch in DataLoader(Photos(photos), BATCH, num_workers=1)]
    with h5py.File(output / "torchvision.h5", "w") as file:
        for name in batches[0]:
            file[name] = np.concatenate([batch[name] for batch in batches])


features(torch.zeros(BATCH, 3, SIZE, SIZE))
serve(backbone, store)
