"""Draw the pictures of the site from data that comes with scikit-learn.

Each function takes the path of the picture that it writes. To add a picture, add its name to ``PICTURES``
and show it on a page.
"""

import csv
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from click.testing import CliRunner
from PIL import Image
from sklearn.datasets import load_sample_image, make_blobs
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier

import featx
from featx.cli import main

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))
from digits_early_blocks import write_digits

plt.switch_backend("agg")
PHOTOS = ("china.jpg", "flower.jpg")
FILLS = ("reflect", "symmetric", "edge", "constant")
BLOCKS, CHANNELS = 5, 7


def run(*arguments: object) -> None:
    """Run a featx command, and stop the build if it fails."""
    result = CliRunner().invoke(main, list(map(str, arguments)))
    if result.exit_code:
        raise RuntimeError(f"featx {' '.join(map(str, arguments))}\n{result.output}\n{result.exception}")


def flower(folder: Path) -> Path:
    """Write scikit-learn's photograph of a flower."""
    Image.fromarray(load_sample_image("flower.jpg")).save(folder / "flower.png")
    return folder / "flower.png"


def copies(path: Path) -> None:
    """Draw a contact sheet of augmented copies."""
    with tempfile.TemporaryDirectory() as name:
        run("preview", flower(Path(name)), "-o", path, "--size", 160, "--n-views", 12,
            "--augment", "flip,rotate=30,scale=0.8:1.2,crop,translate=0.1,color")  # fmt: skip


def augmentation(path: Path, augment: str, fills: tuple[str, ...] = FILLS, count: int = 3) -> None:
    """Draw one kind of augmentation. Each row has one fill mode, and shows the image and its copies."""
    rows = []
    with tempfile.TemporaryDirectory() as name:
        photo = flower(Path(name))
        for fill in fills:
            sheet = Path(name) / f"{fill}.png"
            run(
                "preview",
                photo,
                "-o",
                sheet,
                "--size",
                140,
                "--n-views",
                count + 1,
                "--augment",
                augment,
                "--fill",
                fill,
            )
            rows.append(np.asarray(Image.open(sheet).convert("RGB")))
    figure, panels = plt.subplots(len(rows), 1, figsize=(6, 1.7 * len(rows)), squeeze=False, layout="constrained")
    for panel, pixels, fill in zip(panels.flat, rows, fills, strict=True):
        panel.imshow(pixels)
        panel.set(xticks=[], yticks=[], ylabel=fill if len(fills) > 1 else "")
        panel.spines[:].set_visible(False)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def depths(path: Path) -> None:
    """Draw the channels with the highest values in every block, for one photograph."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "photos").mkdir()
        photo = flower(folder / "photos")
        featx.extract(folder / "photos", folder / "maps.h5", featx.ExtractSpec(pools=("flat",)))
        with featx.Store(folder / "maps.h5") as store:
            maps = [store.read((name,))[0] for name in store.spec.widths]
        image = Image.open(photo).convert("RGB").resize((224, 224))
    figure, panels = plt.subplots(BLOCKS, CHANNELS + 1, figsize=(8, 5.2), layout="constrained")
    for number, values in enumerate(maps, 1):
        channels = (64, 128, 256, 512, 512)[number - 1]
        stack = values.reshape(channels, -1)
        side = int(np.sqrt(stack.shape[1]))
        strongest = np.argsort(-stack.max(axis=1))[:CHANNELS]
        panels[number - 1, 0].imshow(image)
        panels[number - 1, 0].set_ylabel(f"block {number}")
        for panel, channel in zip(panels[number - 1, 1:], strongest, strict=True):
            panel.imshow(stack[channel].reshape(side, side), cmap="magma")
    for panel in panels.flat:
        panel.set(xticks=[], yticks=[])
    figure.savefig(path, dpi=110)
    plt.close(figure)


def heads(path: Path) -> None:
    """Draw the two forms of a linear classifier for three classes in a plane."""
    X, y = make_blobs(150, centers=[(-2, -1), (2, -1), (0, 2)], cluster_std=0.9, random_state=0)
    grid = np.stack(np.meshgrid(np.linspace(-5, 5, 300), np.linspace(-4, 5, 300)), -1)
    colors = ("tab:blue", "tab:orange", "tab:green")
    figure, panels = plt.subplots(1, 2, figsize=(8, 3.6), layout="constrained")
    forms = {
        "softmax: one decision": LogisticRegression(),
        "one-vs-rest: a line per class": OneVsRestClassifier(LogisticRegression()),
    }
    for panel, (title, head) in zip(panels, forms.items(), strict=True):
        head.fit(X, y)
        scores = head.decision_function(grid.reshape(-1, 2)).reshape(*grid.shape[:2], 3)
        if title.startswith("softmax"):
            panel.contourf(
                *grid.transpose(2, 0, 1), scores.argmax(-1), levels=[-0.5, 0.5, 1.5, 2.5], colors=colors, alpha=0.2
            )
        else:
            for number, color in enumerate(colors):
                panel.contour(*grid.transpose(2, 0, 1), scores[..., number], levels=[0], colors=color)
        for number, color in enumerate(colors):
            panel.plot(*X[y == number].T, ".", color=color)
        panel.set(xticks=[], yticks=[], title=title)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def transfer(path: Path) -> None:
    """Draw the validation accuracy by epoch, for fine-tuning and for training the same network from random weights."""
    curves = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_digits(folder / "digits", 120)
        store, start = folder / "digits.h5", folder / "start.featx"
        run("extract", folder / "digits", "-o", store, "--size", 32, "-q")
        run("fit", store, "-o", start, "--head", "softmax", "--blocks", 5, "--C", 1, "-q")
        common = ("--root", folder / "digits", "--epochs", 6, "--unfreeze", "all", "-q")
        for title, options in {
            "ImageNet's weights": ("--backbone-lr-scale", 0.02),
            "random weights": ("--from-scratch",),
        }.items():
            model = folder / f"{len(curves)}.featx"
            run("finetune", start, store, "-o", model, *common, *options)
            with (folder / f"{model.name}.finetune" / "log.csv").open() as file:
                curves[title] = [float(row["val_accuracy"]) for row in csv.DictReader(file) if row["val_accuracy"]]
    figure, axes = plt.subplots(figsize=(6, 3.6), layout="constrained")
    for title, accuracies in curves.items():
        axes.plot(accuracies, marker=".", label=title)
    axes.set(xlabel="epoch", ylabel="validation accuracy", ylim=(0, 1))
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def plane(path: Path) -> None:
    """Draw the position of handwritten digits on the plane of size and similarity."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_digits(folder / "digits", 300)
        run("extract", folder / "digits", "-o", folder / "digits.h5", "--size", 64, "-q")
        run("advise", folder / "digits.h5", "--plot", path)


def depth(path: Path) -> None:
    """Draw the accuracy and the cost of every depth, for handwritten digits."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_digits(folder / "digits", 200)
        run("extract", folder / "digits", "-o", folder / "digits.h5", "--size", 32, "-q")
        run("probe", folder / "digits.h5", "--folds", 3, "--no-time", "--plot", path)


def activation(path: Path) -> None:
    """Draw where a model that was fitted on crops of two photographs sees each of them in an image that shows both."""
    rng, photos = np.random.default_rng(0), [load_sample_image(name) for name in PHOTOS]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for photo, file in zip(photos, PHOTOS, strict=True):
            (folder / "crops" / Path(file).stem).mkdir(parents=True)
            for number in range(16):
                top, left = rng.integers(0, np.array(photo.shape[:2]) - 200)
                crop = Image.fromarray(photo[top : top + 200, left : left + 200])
                crop.save(folder / "crops" / Path(file).stem / f"{number}.png")
        both = Image.fromarray(np.hstack([photo[:, 140:440] for photo in photos]))
        both.save(folder / "both.png")
        run("extract", folder / "crops", "-o", folder / "crops.h5", "--size", 128, "--blocks", "4,5", "-q")
        run("fit", folder / "crops.h5", "-o", folder / "crops.featx", "--head", "softmax", "--C", 0.001,
            "--blocks", "4,5",
            "--normalize", "standard", "-q")  # fmt: skip
        run("explain", folder / "crops.featx", folder / "both.png", "-o", path, "--top", 2)


PICTURES: dict[str, Callable[[Path], None]] = {
    "copies.png": copies,
    "depth.png": depth,
    "activation.png": activation,
    "depths.png": depths,
    "heads.png": heads,
    "transfer.png": transfer,
    "plane.png": plane,
    "augment-flip.png": partial(augmentation, augment="flip", fills=("reflect",)),
    "augment-rotate.png": partial(augmentation, augment="rotate=40"),
    "augment-scale.png": partial(augmentation, augment="scale=0.5:0.8"),
    "augment-crop.png": partial(augmentation, augment="crop", fills=("reflect",)),
    "augment-translate.png": partial(augmentation, augment="translate=0.3"),
}
