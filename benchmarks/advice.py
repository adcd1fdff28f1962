"""Check the advice of ``featx advise``. Each sub-command checks one claim.

    python benchmarks/advice.py forecast|digits|flowers FLOWERS17 WORK

``forecast`` compares the accuracy that is forecast from half of the training images with the one measured with all of
them. ``digits`` and ``flowers`` print the advice for few and for all images of a data set, and the test accuracy of
every method, including the advised one.
"""

import csv
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from evidence import SPLITS
from reporting import run_claim, say
from sklearn.datasets import load_digits

from featx.extraction import extract
from featx.finetuning import Recipe, finetune
from featx.inspection import advise, probe
from featx.inspection.advice.advisor import Advice
from featx.inspection.advice.cases import CASES
from featx.inspection.depth_probe import Depth, ProbeReport
from featx.models import Validation, evaluate, fit, load_model, predict
from featx.runtime import Compute
from featx.spec import ExtractSpec
from featx.store import Store

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))

Table = dict[str, list[str]]
FINETUNE_SIZE = 96
"""The image side in pixels. At this size, two cores fine-tune all layers in minutes."""
RECIPE = Recipe(epochs=6, lr=2e-4, backbone_lr_scale=0.1, ema_decay=0.98)


def read_table(flowers: Path) -> Table:
    """Read the columns of splits.csv."""
    with (flowers / "splits.csv").open() as file:
        rows = list(csv.DictReader(file))
    return {name: [row[name] for row in rows] for name in rows[0]}


def write_table(table: Table, path: Path) -> Path:
    """Write columns as a manifest."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerows([list(table), *zip(*table.values(), strict=True)])
    return path


def draw_few(table: Table, column: str, each: int, seed: int) -> list[str]:
    """Make a split column that keeps ``each`` training images per class, and marks the other images as left."""
    labels, marks = np.array(table["label"]), np.array(table[column])
    rng, few = np.random.default_rng(seed), np.where(marks == "train", "left", marks)
    for label in np.unique(labels):
        few[rng.permutation(np.flatnonzero((labels == label) & (marks == "train")))[:each]] = "train"
    return few.tolist()


def forecast(flowers: Path, work: Path) -> None:
    """Compare the forecast from half of the training images with the accuracy measured with all of them."""
    table = read_table(flowers)
    for number, column in enumerate(SPLITS):
        table[f"split_half_{number}"] = draw_few(table, column, 32, number)
    store = extract_flowers(table, flowers, work, "halves", 224)
    covered = []
    for number, column in enumerate(SPLITS):
        now, then = advise(store, split_column=f"split_half_{number}", more=32).size.forecasts
        crossed = probe(store, split_column=column, timed=False).best.mean
        test = evaluate(fit(store, head="softmax", validation=Validation(split_column=column)), store)
        low, high = then.measured_on(test["n"])
        covered.append((then.low <= crossed <= then.high, low <= test["accuracy"] <= high))
        say(f"{column}: {now.accuracy:.4f} with 32 per class, forecast {then.accuracy:.4f} ({then.low:.4f}–"
            f"{then.high:.4f}) with 64, measured {crossed:.4f}; on {test['n']} test images {low:.4f}–{high:.4f}, "
            f"measured {test['accuracy']:.4f}")  # fmt: skip
    counts = np.sum(covered, axis=0)
    say(f"covered: cross-validation {counts[0]} of 5, test images {counts[1]} of 5")


def digits(_flowers: Path, work: Path) -> None:
    """Check the advice for handwritten digits at 64 px, with 20 images per class and with all images."""
    from digits_early_blocks import write_digits

    root = work / "digits"
    write_digits(root, len(load_digits().target))
    labels = [str(label) for label in load_digits().target]
    test = np.random.default_rng(0).random(len(labels)) < 0.2
    table = {"path": [f"{label}/{number:04d}.png" for number, label in enumerate(labels)], "label": labels,
             "split_whole": np.where(test, "test", "train").tolist()}  # fmt: skip
    table["split_few"] = draw_few(table, "split_whole", 20, 0)
    manifest = write_table(table, work / "digits.csv")
    store = work / "digits.h5"
    extract(manifest, store, ExtractSpec(size=64), Compute(progress=True), root=root)
    compare(store, root, {"split_few": "small, different", "split_whole": "large, different"})


def flowers(flowers: Path, work: Path) -> None:
    """Check the advice for Flowers-17 at 96 px, with 10 training images per class and with all of ``split_0``."""
    table = read_table(flowers)
    table["split_few"] = draw_few(table, "split_0", 10, 0)
    for size in (224, FINETUNE_SIZE):
        store = extract_flowers(table, flowers, work, f"flowers-{size}", size)
        for column in ("split_few", "split_0"):
            say(f"{size} px {column}: {advise(store, split_column=column).recommendation}")
    compare(store, flowers / "jpg", {"split_few": "small, similar", "split_0": "large, similar"})


def extract_flowers(table: Table, flowers: Path, work: Path, name: str, size: int) -> Path:
    """Extract the photographs into a store that has the columns of a table."""
    store = work / f"{name}.h5"
    if (known := work / f"default{size}.h5").exists() and not store.exists():
        shutil.copy(known, store)  # then `extract` only adds the columns
    manifest = write_table(table, work / f"{name}.csv")
    extract(manifest, store, ExtractSpec(size=size), Compute(progress=True), root=flowers / "jpg")
    return store


def compare(store: Path, root: Path, expected: dict[str, str]) -> None:
    """Print the advice and the test accuracy of each method, for each split column and the case expected for it."""
    for column, case in expected.items():
        probed = probe(store, split_column=column, timed=False)
        advice = advise(store, split_column=column, probed=probed)
        say(f"{store.stem} {column}: {advice.recommendation}; expected {case}: {advice.case == case}")
        right = {name: make(store, column, root, probed) for name, make in METHODS.items()}
        best = max(right, key=lambda name: right[name].mean())
        for method, hits in right.items():
            say(f"  {method:<24} {hits.mean():.4f}{'  <- advised' if method == advised_method(advice) else ''}")
        advised, other = right[advised_method(advice)], right[best]
        # The standard error of a paired difference depends on the images on which the two methods disagree.
        error = np.sqrt((advised != other).sum()) / len(other)
        verdict = "tie or better" if other.mean() - advised.mean() <= error else "worse"
        say(f"  advised {advised.mean():.4f}, best ({best}) {other.mean():.4f}: {advised.mean() - other.mean():+.4f} "
            f"with a standard error of {error:.4f}: {verdict}")  # fmt: skip


def advised_method(advice: Advice) -> str:
    """Return the method that is advised in a case."""
    return dict(zip([case.name for case in CASES], ("deep", "block5", "early", "all"), strict=True))[advice.case]


def fit_best_head(store: Path, column: str, depths: Sequence[Depth]) -> Path:
    """Fit a head on the depth with the best cross-validated accuracy, and return the file of the model."""
    depth = max(depths, key=lambda depth: depth.mean)
    path = store.with_name(f"{store.stem}-{column}-{depth.name}.featx")
    fit(store, path, head="softmax", blocks=depth.blocks, overwrite=True, validation=Validation(split_column=column))
    return path


def ends_deep(depth: Depth) -> bool:
    """Return whether the last block of a depth is block 5."""
    return depth.blocks[-1] == 5


def head(store: Path, column: str, root: Path, probed: ProbeReport, *, deep: bool) -> np.ndarray:
    """Test a head on the best deep or the best early blocks."""
    return hits(fit_best_head(store, column, [d for d in probed.depths if ends_deep(d) == deep]), store, column, root)


def tuned(store: Path, column: str, root: Path, probed: ProbeReport, *, unfreeze: str) -> np.ndarray:
    """Test a model whose head is fine-tuned together with block 5 or with all layers."""
    start = fit_best_head(store, column, [d for d in probed.depths if ends_deep(d) or unfreeze == "all"])
    output = store.with_name(f"{store.stem}-{column}-{unfreeze}.featx")
    report = finetune(
        load_model(start),
        store,
        output,
        replace(RECIPE, unfreeze=unfreeze),
        Compute(progress=True),
        root=root,
        overwrite=True,
    )
    say(f"    {unfreeze}: validation {report.val_start:.4f} -> {report.val_best:.4f}, epochs {report.epochs}")
    return hits(output, store, column, root)


def hits(path: Path, store: Path, column: str, root: Path) -> np.ndarray:
    """Return for each test image whether a model classifies it correctly. The images are read from their files."""
    with Store(store) as opened:
        rows = opened.rows_in_split("test", column)
        paths = [root / opened.paths[row] for row in rows]
        truth = np.array(opened.classes)[opened.labels[rows]]
    return np.array([found.classes[0] for found in predict(load_model(path), paths)]) == truth


METHODS: dict[str, Callable[[Path, str, Path, ProbeReport], np.ndarray]] = {
    "deep": lambda *given: head(*given, deep=True),
    "early": lambda *given: head(*given, deep=False),
    "block5": lambda *given: tuned(*given, unfreeze="block5"),
    "all": lambda *given: tuned(*given, unfreeze="all"),
}
CLAIMS = {"forecast": forecast, "digits": digits, "flowers": flowers}

if __name__ == "__main__":
    run_claim(CLAIMS)
