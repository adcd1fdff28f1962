"""Fit a head, then fine-tune the network, and compare the accuracy of both models on held-out images.

    python examples/finetune.py PHOTOS WORK [--size 224] [--n-views 4] [--epochs 8]

PHOTOS has one sub-folder per class; WORK keeps the store, both models, the log and the training curves.
"""

import argparse
import sys
from pathlib import Path

import numpy as np

from featx.drawing import save_figure
from featx.extraction import extract
from featx.finetuning import Recipe, finetune, plot_training_curves, read_logs
from featx.models import Model, Validation, find_held_out_rows, fit, load_model, predict
from featx.runtime import Compute
from featx.spec import ExtractSpec
from featx.store import Store

AUGMENT = "flip,rotate=15,scale=0.9:1.2,translate=0.05"


def accuracy(model: Model, store: Path, photos: Path) -> float:
    """Compute the accuracy on the held-out images from their files: the store holds no fine-tuned features."""
    head = load_model(store.with_name("head.featx"))
    with Store(store) as opened:
        rows = find_held_out_rows(head, opened)
        rows = rows[opened.view_index[rows] == 0] if rows is not None else np.arange(0)
        paths = [photos / opened.paths[row] for row in rows]
        truth = [opened.classes[opened.labels[row]] for row in rows]
    found = [prediction.classes[0] for prediction in predict(model, paths)]
    return float(np.mean(np.array(found) == np.array(truth)))


def main(photos: Path, work: Path, size: int = 224, n_views: int = 4, epochs: int = 8) -> dict[str, float]:
    """Extract augmented copies, fit a head, fine-tune block 5; return the accuracy of both models."""
    work.mkdir(parents=True, exist_ok=True)
    store, tuned = work / "photos.h5", work / "tuned.featx"
    extract(photos, store, ExtractSpec(size=size, n_views=n_views, augment=AUGMENT), Compute(progress=True))
    held_out_quarter = Validation(test_size=0.25)
    fit(store, work / "head.featx", head="softmax", blocks=(3, 4, 5), validation=held_out_quarter, overwrite=True)
    recipe = Recipe(epochs=epochs, lr=2e-4, backbone_lr_scale=0.1, ema_decay=0.9)
    report = finetune(load_model(work / "head.featx"), store, tuned, recipe, root=photos, overwrite=True)
    save_figure(plot_training_curves(read_logs([work / "tuned.featx.finetune"])), work / "curve.png")
    results = {name: accuracy(load_model(work / f"{name}.featx"), store, photos) for name in ("head", "tuned")}
    say = sys.stdout.write
    say(f"validation: {report.val_start:.4f} -> {report.val_best:.4f}, best epochs {report.epochs}\n")
    say(f"held-out images: head {results['head']:.4f}, fine-tuned {results['tuned']:.4f}\n")
    say(f"models, backbone and training curves are in {work}\n")
    return results


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photos", type=Path, metavar="PHOTOS", help="folder with one sub-folder per class")
    parser.add_argument("work", type=Path, metavar="WORK", help="folder for store, models and curves")
    parser.add_argument("--size", type=int, default=224, help="image side in pixels")
    parser.add_argument("--n-views", type=int, default=4, help="copies per image: the plain one and augmented ones")
    parser.add_argument("--epochs", type=int, default=8, help="epochs of block 5 and the head")
    options = parser.parse_args()
    main(options.photos, options.work, options.size, options.n_views, options.epochs)
