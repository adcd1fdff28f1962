"""Measure what `featx explain` claims, on real weights and the photographs of Flowers-17.

    python benchmarks/explain_check.py FLOWERS17 WORK

Of heads on raw, standardized and power-normalized averages of blocks 3 to 5: how far the maps' sums and the intercept
are from the logit, and how well a map tells what it costs to take a place out of the pooled features. A place is one
of 7 × 7, in all blocks at once.
"""

import itertools
import sys
from pathlib import Path

import numpy as np
import torch
from evidence import store_of
from reporting import say

from featx.inspection import Explainer, Explanation
from featx.models import FitOptions, Validation, fit
from featx.spec import ExtractSpec

PLACES = 7
HEADS = (("none", 1e-3), ("standard", 1e-3), ("power", 1.0))


def agreement(explainer: Explainer, found: Explanation, code: int) -> float:
    """Correlation over places between the share that a class's maps give them and what the logit loses without them."""
    tapped, best = explainer._taps(found.pixels), found.classes[0]
    told, lost = [], []
    for row, column in itertools.product(range(PLACES), repeat=2):
        without, share = {}, 0.0
        for number, output in tapped.items():
            step = output.shape[2] // PLACES
            place = slice(row * step, (row + 1) * step), slice(column * step, (column + 1) * step)
            without[number] = output.clone()
            without[number][..., *place] = 0
            share += float(best.blocks[number][place].sum())
        with torch.no_grad():
            lost.append(best.logit - float(explainer._tail(*without.values())[0, code]))
        told.append(share)
    return float(np.corrcoef(told, lost)[0, 1])


def main(flowers: Path, work: Path) -> None:
    """One line a normalizer."""
    store = store_of(flowers, work, "default224", ExtractSpec())
    photographs = sorted((flowers / "jpg").rglob("*.jpg"))[::85]
    for normalize, C in HEADS:
        model = fit(
            store,
            head="softmax",
            blocks=(3, 4, 5),
            C=C,
            options=FitOptions(normalize=normalize),
            validation=Validation(split_column="split_0", folds=2),
        )
        explainer, errors, agreements = Explainer(model), [], []
        for path in photographs:
            found = explainer(path)
            for one in found.classes:
                added = sum(float(values.sum(dtype=np.float64)) for values in one.blocks.values())
                errors.append(abs(added + (one.intercept or 0) - one.logit))
            agreements.append(agreement(explainer, found, model.classes.index(found.classes[0].name)))
        say(
            f"{normalize}: exact {explainer.exact}; sum and intercept against logit {max(errors):.1e} at most; "
            f"correlation with what a place costs {np.mean(agreements):.4f}, {min(agreements):.4f} at least"
        )


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
