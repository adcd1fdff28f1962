"""Compare the classic recipe of feature extraction with the defaults of featx, on the photographs of Flowers-17.

    python examples/flowers17.py FOLDER WORK [--split split_folder] [--each 80] [--size 224]

FOLDER contains ``jpg/`` and ``splits.csv``, which has the columns path, label and the split. WORK keeps the results.
Courses teach the classic recipe: a logistic regression with C = 0.1 on all raw values of block 5. The recipe of featx
is ``featx extract`` and ``featx fit`` without options. It uses the averages of all blocks, and cross-validation selects
the best blocks, head and C.
"""

import argparse
import csv
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from featx import Compute, ExtractSpec, FitOptions, Validation, evaluate, extract, fit

RECIPES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "classic": (
        {"blocks": (5,), "pools": ("flat",)},
        {
            "head": "softmax",
            "C": 0.1,
            "blocks": (5,),
            "options": FitOptions(normalize="none"),
            "validation": Validation(folds=2),
        },
    ),
    "featx": ({}, {}),
}
"""The arguments of `ExtractSpec` and of `fit` for each recipe."""


def write_manifest(flowers: Path, manifest: Path, split: str, each: int) -> None:
    """Write a manifest of the first photographs of each class, for training and test, with the column ``split``."""
    taken: Counter[tuple[str, str]] = Counter()
    with (flowers / "splits.csv").open() as file, manifest.open("w", newline="") as output:
        writer = csv.writer(output)
        writer.writerow(("path", "label", "split"))
        for row in csv.DictReader(file):
            taken[row["label"], row[split]] += 1
            if taken[row["label"], row[split]] <= each:
                writer.writerow((row["path"], row["label"], row[split]))


def run_recipe(name: str, flowers: Path, work: Path, size: int) -> dict[str, Any]:
    """Extract and fit with one recipe; return test accuracy, columns, megabytes of the store, and seconds."""
    extracting, fitting = RECIPES[name]
    store, began = work / f"{name}.h5", time.monotonic()
    extract(
        work / "manifest.csv", store, ExtractSpec(size=size, **extracting), Compute(progress=True), root=flowers / "jpg"
    )
    extracted = time.monotonic()
    model = fit(store, work / f"{name}.featx", overwrite=True, **fitting)
    return {
        "accuracy": evaluate(model, store)["accuracy"],
        "columns": sum(model.spec.widths.values()),
        "megabytes": store.stat().st_size / 1e6,
        "extract": extracted - began,
        "fit": time.monotonic() - extracted,
        "head": f"{model.head} on blocks {','.join(map(str, model.spec.blocks))}, C = {model.info['C']:g}",
    }


def main(flowers: Path, work: Path, split: str = "split_folder", each: int = 80, size: int = 224) -> dict[str, Any]:
    """Run both recipes on the same images; return the results of `run_recipe` by recipe."""
    work.mkdir(parents=True, exist_ok=True)
    write_manifest(flowers, work / "manifest.csv", split, each)
    results = {name: run_recipe(name, flowers, work, size) for name in RECIPES}
    say = sys.stdout.write
    say(f"{'recipe':<9}{'accuracy':>9}{'columns':>9}{'MB':>8}{'extract':>10}{'fit':>9}  chosen\n")
    for name, row in results.items():
        say(f"{name:<9}{row['accuracy']:>9.4f}{row['columns']:>9}{row['megabytes']:>8.1f}")
        say(f"{row['extract']:>8.1f} s{row['fit']:>7.1f} s  {row['head']}\n")
    return results


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("flowers", type=Path, metavar="FOLDER", help="folder of Flowers-17")
    parser.add_argument("work", type=Path, metavar="WORK", help="folder for stores and models")
    parser.add_argument("--split", default="split_folder", help="column of splits.csv with train and test")
    parser.add_argument("--each", type=int, default=80, help="most images per class, for training and for test")
    parser.add_argument("--size", type=int, default=224, help="image side in pixels")
    options = parser.parse_args()
    main(options.flowers, options.work, options.split, options.each, options.size)
