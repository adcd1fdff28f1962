"""Measure fine-tuning on Flowers-17: seconds per epoch compared with Keras, and accuracy over time.

    python benchmarks/finetune.py FLOWERS17 WORK [--size 384] [--n-views 4] [--splits 0 1 2 3 4] [--compare]

WORK keeps the stores, the activations of the frozen layers, and the result of each finished run, so that a stopped
benchmark resumes.

An epoch trains block 5 and the head on 1,088 images at 224 px. Keras computes the frozen blocks in each epoch; featx
reads their stored activations. Then a head is fitted and fine-tuned on each split. With --compare, two other methods
are trained on split_0: the classic recipe (25 epochs of new layers on block 5, then 35 epochs together with block 5, at
224 px), and 60 epochs from random weights, at a size that two cores can train. Results go to
docs/benchmarks/finetune.json and .svg and into docs/benchmarks.md.
"""

import argparse
import dataclasses
import json
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from extract import CONTENDERS, PEERS_PYTHON
from reporting import describe_machine, machine, present, say, spread, table

from featx.drawing import make_figure
from featx.extraction import extract
from featx.finetuning import Recipe, finetune
from featx.finetuning.performance import amp_is_faster, configure_convolutions, keep_freed_memory
from featx.finetuning.resumable_run import RUN, run_folder
from featx.finetuning.stage import Stage
from featx.finetuning.trainable_layers import TrainableLayers
from featx.finetuning.training_examples import TrainingExamples
from featx.finetuning.training_log import TrainingLog
from featx.models import FitOptions, Validation, evaluate, fit, load_model, predict, to_torch
from featx.runtime import Compute
from featx.spec import ExtractSpec
from featx.store import Store

AUGMENT = "flip,rotate=15,scale=0.9:1.2,translate=0.05"
RECIPE = Recipe(epochs=8, lr=2e-4, backbone_lr_scale=0.25, mixup=0.2, ema_decay=0.95, batch_size=32, refit=True)
"""The recipe of finetune_recipes.py that trains only block 5 and has the best validation accuracy."""
CLASSIC = Recipe(init="random", hidden=256, dropout=0.5, head_epochs=25, epochs=35, schedule="constant")
SCRATCH = Recipe(init="random", hidden=256, dropout=0.5, head_epochs=0, epochs=60, schedule="constant", unfreeze="all",
                 lr=2e-4, backbone_lr_scale=1.0, from_scratch=True)  # fmt: skip
RAW = {"head": "softmax", "blocks": (5,), "C": 0.1, "normalize": "none"}
"""The head of the classic recipe, on the raw features of block 5."""


def epoch_seconds(work: Path, store: Path, images: int = 1088) -> float:
    """Time the second epoch of a training run of featx at 224 px, which trains block 5 from cached activations."""
    model = fit(store, head="softmax", blocks=(5,), C=1.0, validation=Validation(split_column="split_0"))
    device, rng = torch.device("cpu"), np.random.default_rng(0)
    layers = TrainableLayers(to_torch(model), 24, amp=amp_is_faster(device))
    configure_convolutions(layers.classifier.backbone, device, amp=layers.amp)
    activations = rng.random((images, 512, 14, 14), np.float32).astype(np.float16)
    features = np.zeros((images, sum(model.spec.widths.values())), np.float32)
    rows = TrainingExamples((activations, features), rng.integers(0, len(model.classes), images), np.arange(images))
    folder = work / "epoch"
    folder.mkdir(exist_ok=True)
    recipe = Recipe(val_size=0.2)
    groups = layers.parameter_groups(recipe)
    stage = Stage("epoch", layers, groups, 2, recipe, rows, rows, TrainingLog(folder), device=device)
    with keep_freed_memory():
        stage._train_epoch(1)
        began = time.perf_counter()
        stage._train_epoch(2)
        return time.perf_counter() - began


def keras_epoch_seconds(images: int = 1088) -> float | None:
    """Time the same epoch in Keras, in its own environment. Return None if the environment does not exist."""
    if not PEERS_PYTHON.exists():
        return None
    command = [str(PEERS_PYTHON), str(CONTENDERS / "keras_finetune.py"), str(images), "17"]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])


def test_accuracy(path: Path, store: Path, root: Path, split: str) -> float:
    """Compute the accuracy of a model on the test images of a split. The images are read from their files."""
    with Store(store) as opened:
        rows = opened.rows_in_split("test", split)
        rows = rows[opened.view_index[rows] == 0]
        paths = [root / opened.paths[row] for row in rows]
        truth = np.array(opened.classes)[opened.labels[rows]]
    found = [prediction.classes[0] for prediction in predict(load_model(path), paths)]
    return float((np.array(found) == truth).mean())


def tune_split(
    number: int, store: Path, options: argparse.Namespace, recipe: Recipe, name: str, head: dict[str, Any]
) -> dict[str, object]:
    """Fit a head on one split, fine-tune it, and measure both. If the run was finished before, read its result."""
    split, work, done = f"split_{number}", options.work, options.work / f"{name}-{number}.json"
    with Store(store) as opened:
        # Convert the result through JSON, because a result that is read from its file has lists instead of tuples.
        what = json.loads(json.dumps({"recipe": dataclasses.asdict(recipe), "head": head, "spec": opened.spec.digest}))
    if done.exists():
        known: dict[str, object] = json.loads(done.read_text())
        if known["what"] == what:
            return known
    start, output = work / f"{name}-{number}-head.featx", work / f"{name}-{number}.featx"
    in_one_run = not (run_folder(output) / RUN).exists()
    began = time.monotonic()
    chosen = {name: value for name, value in head.items() if name != "normalize"}
    normalize = FitOptions(normalize=head.get("normalize", "power"))
    fit(store, start, overwrite=True, options=normalize, validation=Validation(split_column=split), **chosen)
    seconds_head = time.monotonic() - began
    report = finetune(load_model(start), store, output, recipe, Compute(progress=True),
                      root=options.flowers / "jpg", overwrite=True, cache=work / "frozen")  # fmt: skip
    seconds = time.monotonic() - began
    result = {
        "split": number, "name": name, "what": what,
        "head": evaluate(load_model(start), store)["accuracy"],
        "tuned": test_accuracy(output, store, options.flowers / "jpg", split),
        "val_start": report.val_start, "val_best": report.val_best, "epochs": report.epochs,
        "seconds_head": seconds_head, "seconds": seconds if in_one_run else None,
        "log": [json.loads(line) for line in Path(report.log).with_suffix(".jsonl").read_text().splitlines()],
    }  # fmt: skip
    done.write_text(json.dumps(result))
    say(f"{name} {split}: head {result['head']:.4f}, tuned {result['tuned']:.4f}, validation {report.val_start:.4f} -> "
        f"{report.val_best:.4f}, epochs {report.epochs}, {seconds:.0f} s")  # fmt: skip
    return result


def measure(options: argparse.Namespace) -> dict[str, object]:
    """Measure the seconds per epoch, then the accuracy on each split."""
    options.work.mkdir(parents=True, exist_ok=True)
    manifest, root = options.flowers / "splits.csv", options.flowers / "jpg"
    spec = ExtractSpec(size=options.size, blocks=(3, 4, 5), pools=("avg", "max"), precision=options.precision,
                       n_views=options.n_views, augment=AUGMENT)  # fmt: skip
    store, seconds = options.work / f"views-{options.size}-{options.n_views}.h5", None
    if options.splits:
        extracted = extract(manifest, store, spec, Compute(progress=True), root=root)
        time_file = store.with_suffix(".seconds")
        if extracted.extracted == extracted.rows:
            time_file.write_text(str(extracted.seconds))
        seconds = float(time_file.read_text()) if time_file.exists() else None
        say(f"{extracted.rows} rows, {options.n_views} per image, at {options.size} px in {extracted.seconds:.0f} s")
    plain = options.work / "plain-224.h5"
    raw = ExtractSpec(blocks=(5,), pools=("flat",))
    extract(manifest, plain, raw, Compute(progress=True), root=root)
    epochs = [(epoch_seconds(options.work, plain), keras_epoch_seconds()) for _ in range(options.rounds)]
    for ours, theirs in epochs:
        say(f"an epoch of 1,088 images that trains block 5: featx {ours:.1f} s, Keras {theirs} s")
    head = {"head": options.head, "blocks": (3, 4, 5), "C": options.C}
    recipe = dataclasses.replace(RECIPE, epochs=options.epochs)
    runs = [tune_split(number, store, options, recipe, "featx", head) for number in options.splits]
    if options.compare:
        runs.append(tune_split(0, plain, options, CLASSIC, "classic", RAW))
        small = options.work / f"plain-{options.scratch_size}.h5"
        extract(manifest, small, dataclasses.replace(raw, size=options.scratch_size), Compute(progress=True), root=root)
        runs.append(tune_split(0, small, options, SCRATCH, f"from scratch, {options.scratch_size} px", RAW))
    seconds_per_epoch = {"featx": [ours for ours, _ in epochs], "Keras": [theirs for _, theirs in epochs]}
    return {"machine": machine(), "size": options.size, "n_views": options.n_views, "epochs": options.epochs,
            "extract_seconds": seconds, "epoch": seconds_per_epoch, "runs": runs}  # fmt: skip


def report(results: dict[str, object]) -> str:
    """Write the results as Markdown."""
    runs: list[dict[str, object]] = results["runs"]  # type: ignore[assignment]
    rows = [
        [f"{run['name']}, split_{run['split']}", f"{run['head']:.4f}", f"{run['tuned']:.4f}",
         f"{run['val_start']:.4f} → {run['val_best']:.4f}",
         f"{sum(row['seconds'] or 0 for row in run['log']):.0f}",  # type: ignore[attr-defined]
         f"{run['seconds']:.0f}" if run["seconds"] else "resumed"]
        for run in runs
    ]  # fmt: skip
    epoch: dict[str, list[float]] = results["epoch"]  # type: ignore[assignment]
    parts = [describe_machine(results["machine"])]  # type: ignore[arg-type]
    if epoch["featx"]:
        text = f"An epoch of 1,088 images at 224 px that trains block 5 and the head: featx {spread(epoch['featx'])} s"
        if None not in epoch["Keras"]:
            ratios = [theirs / ours for ours, theirs in zip(epoch["featx"], epoch["Keras"], strict=True)]
            text += f", Keras {spread(epoch['Keras'])} s, {spread(ratios)} × as long"
        parts.append(f"{text}.")
    if ours := [run for run in runs if run["name"] == "featx"]:
        means = [float(np.mean([run[what] for run in ours])) for what in ("head", "tuned")]  # type: ignore[misc]
        seconds = results["extract_seconds"]
        parts.append(
            f"{results['size']} px, {results['n_views']} copies of each of 1,360 photographs"
            f"{f', extracted in {seconds:.0f} s' if seconds else ''}; {results['epochs']} epochs. "
            f"Mean test accuracy over splits: head alone {means[0]:.4f}, fine-tuned {means[1]:.4f}. "
            "Seconds of training, and in total with the head and the frozen layers: a split reuses the frozen layers "
            "of the splits before it (`--cache`)."
        )
    header = ["", "head alone", "fine-tuned", "validation", "training, s", "all, s"]
    return "\n\n".join([*parts, table(header, rows), "![Accuracy by time](benchmarks/finetune.svg)"])


def draw(results: dict[str, object], path: Path) -> None:
    """Draw the validation accuracy by seconds of training, with one curve per run."""
    figure, axes = make_figure("seconds of training", "validation accuracy")
    figure.set_size_inches(7, 4)
    for run in results["runs"]:  # type: ignore[attr-defined]
        rows = [
            row for row in run["log"] if not row["stage"].startswith("refit-")
        ]  # a refit trains on the validation images
        seconds, label = np.cumsum([row["seconds"] or 0 for row in rows]), f"{run['name']}, split_{run['split']}"
        axes.plot(seconds, [row["val_accuracy"] for row in rows], marker=".", label=label)
    axes.legend()
    figure.savefig(path)


def main() -> None:
    """Measure, save and publish the results."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("flowers", type=Path, help="folder of Flowers-17, with jpg/ and splits.csv")
    parser.add_argument("work", type=Path, help="folder for stores, activations and models")
    parser.add_argument("--size", type=int, default=384, help="image side in pixels")
    parser.add_argument("--n-views", type=int, default=4, help="copies per image: the plain one and augmented ones")
    parser.add_argument("--epochs", type=int, default=RECIPE.epochs, help="epochs of block 5 and the head")
    parser.add_argument("--splits", type=int, nargs="*", default=[0, 1, 2, 3, 4], help="numbers of the splits")
    parser.add_argument("--precision", default="fp32", help="precision of the extraction")
    parser.add_argument("--head", default="linear-svc", help="head to fine-tune from")
    parser.add_argument("--C", type=float, help="C of the head (default: chosen by cross-validation)")
    parser.add_argument("--compare", action="store_true", help="also train the classic recipe and from random weights")
    parser.add_argument("--scratch-size", type=int, default=48, help="image side in pixels for random weights")
    parser.add_argument("--rounds", type=int, default=1, help="number of epochs to time in featx and in Keras")
    results = measure(parser.parse_args())
    present("finetune", results, report(results), draw)


if __name__ == "__main__":
    main()
