"""Compare recipes of fine-tuning on the five splits of Flowers-17. Each split has its own process.

    python benchmarks/finetune_recipes.py FLOWERS17 WORK [--size 384] [--n-views 4] [--epochs 8] [--seconds 300]

If there is a GPU, it holds all data. Each recipe first trains on four fifths of the training images, and the other
fifth gives its validation accuracy. It then trains on all training images for as many epochs, which gives its test
accuracy. Choose the recipe with the best validation accuracy.
"""

import argparse
import json
import multiprocessing
import os
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from reporting import say
from torch import Tensor

from featx.backbones import PREPROCESSINGS, load_backbone
from featx.engines import Normalize, TorchBackbone
from featx.extraction import extract
from featx.finetuning import Recipe
from featx.finetuning.recipe import last_frozen_block
from featx.finetuning.stage import Stage, StageOutcome, ValidationScore
from featx.finetuning.starting_point import (
    FinetuneData,
    ImageSubset,
    fit_head,
    fit_logit_scale,
    make_classifier,
    read_finetune_data,
)
from featx.finetuning.trainable_layers import TrainableLayers
from featx.finetuning.training_examples import TrainingExamples
from featx.finetuning.training_log import TrainingLog
from featx.images import list_images, load_images
from featx.models import Model, Validation, fit
from featx.spec import ExtractSpec
from featx.store import Store

AUGMENT = "flip,rotate=15,scale=0.9:1.2,translate=0.05"
CUDA = torch.cuda.is_available()
DEVICE = torch.device("cuda" if CUDA else "cpu")
HALF = torch.float16 if CUDA else torch.float32


def recipes(epochs: int) -> Iterator[tuple[str, Recipe]]:
    """Yield the recipes by name. Recipes with the same frozen layers follow each other."""
    common: dict[str, Any] = {"epochs": epochs, "lr": 2e-4, "batch_size": 32}
    block4: dict[str, Any] = {**common, "unfreeze": "block4", "layer_decay": 0.8, "ema_decay": 0.98}
    yield "block5, backbone 0.1", Recipe(**common, backbone_lr_scale=0.1, ema_decay=0.95)
    yield "block5, backbone 0.5", Recipe(**common, backbone_lr_scale=0.5, ema_decay=0.98)
    yield "block5, smoothing", Recipe(**common, backbone_lr_scale=0.25, ema_decay=0.95, label_smoothing=0.1)
    yield "block5, mixup", Recipe(**common, backbone_lr_scale=0.25, ema_decay=0.95, mixup=0.2)
    yield "block4, backbone 0.25", Recipe(**{**block4, "ema_decay": 0.95}, backbone_lr_scale=0.25)
    yield "block4, smoothing, mixup", Recipe(**block4, backbone_lr_scale=0.25, label_smoothing=0.1, mixup=0.2)
    yield "block4, backbone 0.5, smoothing", Recipe(**block4, backbone_lr_scale=0.5, label_smoothing=0.1)
    yield "all", Recipe(**{**block4, "unfreeze": "all"}, backbone_lr_scale=0.25)


class DeviceExamples(TrainingExamples):
    """Examples in device memory. ``inputs`` holds activations, features, and the numbers of the rows in them."""

    def batch(self, rows: np.ndarray) -> tuple[list[Tensor], Tensor]:
        """Return the inputs and labels of some rows."""
        activations, features, numbers = self.inputs
        chosen = torch.from_numpy(numbers[rows]).to(DEVICE)
        inputs: list[Tensor] = [activations[chosen], features[chosen]]  # type: ignore[list-item, index]
        return inputs, torch.from_numpy(self.labels[rows])


class Split:
    """One split, with its head, images and activations."""

    def __init__(self, number: int, store: Path, pixels: Path) -> None:
        self.folder = store.parent / f"split-{number}"
        self.folder.mkdir(exist_ok=True)
        self.full: Model = fit(
            store,
            head="linear-svc",
            blocks=(3, 4, 5),
            C=1.0,
            validation=Validation(split_column=f"split_{number}", folds=2),
        )
        self.data: FinetuneData = read_finetune_data(self.full, store, Recipe())
        self.base = fit_head(self.full, self.data, self.data.train)
        self.scale = fit_logit_scale(self.base, self.data.val)
        self.weights = load_backbone("oxford")
        with Store(store) as opened:
            self.spec = opened.spec
            self.labels = opened.labels.astype(np.int64)
            self.numbers = {path: row for row, path in enumerate(opened.paths[:: self.spec.n_views])}
            features = opened.read(self.spec.widths)
            tested = opened.rows_in_split("test", f"split_{number}")
            self.tested = tested[opened.view_index[tested] == 0]
        truth = np.array(self.full.classes)[self.labels[self.tested]]
        self.head = float((self.full.estimator.predict(features[self.tested]) == truth).mean())
        self.features = torch.from_numpy(features).to(DEVICE)
        self.pixels = torch.from_numpy(np.load(pixels)).to(DEVICE)
        self.block, self.activations = 0, self.pixels

    def run(self, recipe: Recipe) -> dict[str, object]:
        """Validate a recipe, then train on all training images for the same number of epochs."""
        began = time.perf_counter()
        self._freeze(last_frozen_block(recipe.first_trained_layer(5) or 0))
        outcome, score, log = self._stage(recipe, self.base, self.data.train, validate=True)
        _, all_score, _ = self._stage(recipe, self.full, self.data.all, validate=False)
        return {
            "recipe": asdict(recipe), "head": self.head, "val_start": outcome.start.accuracy,
            "val_best": outcome.best.accuracy, "epoch": outcome.best_epoch, "val": [row["val_accuracy"] for row in log],
            "test_without_val": score.accuracy, "test": all_score.accuracy,
            "seconds": time.perf_counter() - began,
        }  # fmt: skip

    @torch.inference_mode()
    def _freeze(self, block: int) -> None:
        if block == self.block:
            return
        preprocessing = PREPROCESSINGS[self.spec.preprocessing]
        normalize = Normalize(preprocessing.mean, preprocessing.std).to(DEVICE)
        self.block, self.activations = block, self.pixels
        if block:
            backbone = TorchBackbone.from_tensors(self.weights.tensors, (block,)).eval().to(DEVICE, HALF)
            backbone = backbone.to(memory_format=torch.channels_last)
            parts = [backbone(normalize(x).to(HALF))[block].half() for x in self.pixels.split(32)]
            self.activations = torch.cat(parts).clone(memory_format=torch.contiguous_format)

    def _stage(
        self, recipe: Recipe, base: Model, images: ImageSubset, *, validate: bool
    ) -> tuple[StageOutcome, ValidationScore, list[dict[str, Any]]]:
        for path in self.folder.glob("*"):
            path.unlink()
        classifier = make_classifier(base, self.weights, self.scale, recipe).to(DEVICE)
        layers = TrainableLayers(classifier, recipe.first_trained_layer(5) or 0, amp=CUDA)
        stage = Stage("backbone", layers, layers.parameter_groups(recipe), recipe.epochs, recipe,
                      self._examples(images, self.spec.n_views), self._examples(self.data.val, 1),
                      TrainingLog(self.folder), device=DEVICE, validate=validate)  # fmt: skip
        outcome = stage.run()
        log = [json.loads(line) for line in (self.folder / "log.jsonl").read_text().splitlines()]
        # The model now has its best weights; the moving average has those of the last epoch.
        stage._ema, stage.val = None, self._some(self.tested, np.arange(len(self.tested)))
        return outcome, stage.validate(), log

    def _examples(self, images: ImageSubset, views: int) -> DeviceExamples:
        first = np.array([self.numbers[path] for path in images.digests]) * self.spec.n_views
        return self._some((first[:, None] + np.arange(views)).ravel(), np.repeat(np.arange(len(first)), views))

    def _some(self, rows: np.ndarray, image_ids: np.ndarray) -> DeviceExamples:
        inputs: Any = (self.activations, self.features, rows)
        return DeviceExamples(inputs, self.labels[rows], image_ids)


def tune(number: int, store: Path, pixels: Path, options: argparse.Namespace, answers: Any) -> None:
    """Run all recipes on one split, until the time is over. Each process calls this function."""
    split = Split(number, store, pixels)
    for name, recipe in recipes(options.epochs):
        if time.time() > options.end:
            break
        answers.put((name, number, split.run(recipe)))
    answers.put(None)


def main() -> None:
    """Extract, fine-tune and print the results."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("flowers", type=Path, help="folder of Flowers-17, with jpg/ and splits.csv")
    parser.add_argument("work", type=Path, help="folder for stores and results")
    parser.add_argument("--size", type=int, default=384, help="image side in pixels")
    parser.add_argument("--n-views", type=int, default=4, help="copies per image: the plain one and augmented ones")
    parser.add_argument("--epochs", type=int, default=8, help="epochs of each recipe")
    parser.add_argument("--splits", type=int, nargs="*", default=[0, 1, 2, 3, 4], help="numbers of the splits")
    parser.add_argument("--seconds", type=float, default=300, help="time after which no further recipe starts")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    store, pixels, root = options.work / "views.h5", options.work / "pixels.npy", options.flowers / "jpg"
    spec = ExtractSpec(size=options.size, blocks=(3, 4, 5), pools=("avg", "max"), n_views=options.n_views,
                       augment=AUGMENT, precision="bf16" if CUDA else "fp32")  # fmt: skip
    extract(options.flowers / "splits.csv", store, spec, root=root, overwrite=True)
    with Store(store) as opened:
        spec, paths = opened.spec, opened.paths[:: opened.spec.n_views]
    listing = list_images(paths, root)
    images = load_images(listing, range(len(listing)), spec, os.cpu_count() or 1)
    np.save(pixels, np.stack([view for image in images for view in image.views]).transpose(0, 3, 1, 2))
    options.end = time.time() + options.seconds
    context = multiprocessing.get_context("spawn")
    answers, results = context.Queue(), dict[str, dict[int, Any]]()
    tuners = [
        context.Process(target=tune, daemon=True, args=(number, store, pixels, options, answers))
        for number in options.splits
    ]
    for tuner in tuners:
        tuner.start()
    ended = 0
    while ended < len(tuners):
        if (answer := answers.get()) is None:
            ended += 1
            continue
        name, number, found = answer
        results.setdefault(name, {})[number] = found
        (options.work / "recipes.json").write_text(json.dumps(results, indent=1))
        if len(results[name]) == len(tuners):
            mean = {key: np.mean([row[key] for row in results[name].values()])
                    for key in ("head", "val_start", "val_best", "test", "seconds")}  # fmt: skip
            say(f"{name}: " + ", ".join(f"{key} {value:.4f}" for key, value in mean.items()))


if __name__ == "__main__":
    main()
