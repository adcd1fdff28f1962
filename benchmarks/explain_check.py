"""Check the class maps of `featx explain` with real weights on photographs of Flowers-17.

    python benchmarks/explain_check.py FLOWERS17 WORK

The heads use raw, standardized and power-normalized averages of blocks 3 to 5. For each head, the script prints two
figures. The first is the difference between the logit and the sum of maps and intercept. The second is a correlation:
between the value of a position in the maps, and the drop of the logit when this position is removed from all blocks.
Positions are those of a 7 × 7 grid.
"""

import itertools
import sys
from pathlib import Path

import numpy as np
from evidence import store_of
from reporting import say

from featx.inspection import Explainer, Explanation
from featx.models import FitOptions, Validation, fit
from featx.spec import ExtractSpec

GRID = 7
HEADS = (("none", 1e-3), ("standard", 1e-3), ("power", 1.0))


def agreement(explainer: Explainer, found: Explanation, code: int) -> float:
    """Correlate the value of each grid position in the maps with the drop of the logit when it is removed."""
    feature_maps, best = explainer.feature_maps(found.pixels), found.classes[0]
    values, drops = [], []
    for row, column in itertools.product(range(GRID), repeat=2):
        without, value = {}, 0.0
        for number, output in feature_maps.items():
            step = output.shape[2] // GRID
            position = slice(row * step, (row + 1) * step), slice(column * step, (column + 1) * step)
            without[number] = output.clone()
            without[number][..., *position] = 0
            value += float(best.blocks[number][position].sum())
        drops.append(best.logit - float(explainer.logits(without)[code]))
        values.append(value)
    return float(np.corrcoef(values, drops)[0, 1])


def main(flowers: Path, work: Path) -> None:
    """Print the two figures for each normalizer, in one line."""
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
            f"{normalize}: exact {explainer.exact}; largest difference from the logit {max(errors):.1e}; "
            f"correlation with the drop of the logit: mean {np.mean(agreements):.4f}, lowest {min(agreements):.4f}"
        )


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: explain_check.py FLOWERS17 WORK")
    main(Path(sys.argv[1]), Path(sys.argv[2]))
