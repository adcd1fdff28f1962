"""Probe: how good every depth of the backbone is for the images at hand, and what it costs."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from joblib import cpu_count

from featx.backbones import backbone_flops, feature_name
from featx.drawing import make_figure, save_figure
from featx.engines import time_depths
from featx.errors import DataError, SpecMismatch, WeightsError
from featx.heads import (
    BlockNormalizer,
    cross_validate_sets,
    log_maximum_evidence,
    make_feature_sets,
    make_folds,
    make_grids,
    make_problem,
    run_parallel,
    workers_for,
)
from featx.models import TrainingRows, block_runs, read_training_rows
from featx.runtime import Compute, pluralize

TOLERANCE = 1e-5
"""Gap of the fits as a share of the objective, ten times that of `featx.fit.fit`, which takes a quarter longer: it
decides one held-out image in 7,000 otherwise, where a standard error is that of one in 200."""
LOGME_ROWS = 5000
"""The most rows that LogME is computed on: its cost grows with their cube."""


@dataclass(frozen=True)
class Depth:
    """One run of blocks: its best cross-validated score, and what it costs an image.

    ``logme`` is the log evidence a row without any fit (see `featx.heads.logme`); ``arithmetic`` the share of the whole
    backbone's; ``milliseconds`` of the backbone, None if not timed; ``bytes`` of features in float32.
    """

    name: str
    blocks: tuple[int, ...]
    C: float
    mean: float
    standard_error: float
    logme: float
    arithmetic: float
    milliseconds: float | None
    bytes: int


@dataclass(frozen=True)
class ProbeReport:
    """All depths, shallow before deep, scored on ``rows`` images."""

    store: str
    head: str
    scoring: str
    rows: int
    depths: tuple[Depth, ...]

    @property
    def best(self) -> Depth:
        """The depth of the highest score."""
        return max(self.depths, key=lambda depth: depth.mean)

    @property
    def near(self) -> list[Depth]:
        """Those within one standard error of the best, and the best."""
        return [depth for depth in self.depths if depth.mean >= self.best.mean - self.best.standard_error]

    @property
    def frugal(self) -> Depth:
        """The shallowest within one standard error of the best; of those that end there, the best."""
        last = min(depth.blocks[-1] for depth in self.near)
        return max((depth for depth in self.near if depth.blocks[-1] == last), key=lambda depth: depth.mean)

    @property
    def advice(self) -> str:
        """One sentence: what the frugal depth saves, and what it loses."""
        best, frugal = self.best, self.frugal
        if best is frugal:
            within = f" (within it: {pluralize(len(self.near) - 1, 'other')})" if len(self.near) > 1 else ""
            return f"the run {best.name} is the best, and no shallower one is within one standard error{within}"
        lost, cost = 100 * (best.mean - frugal.mean), frugal.arithmetic / best.arithmetic
        return f"the run {frugal.name} loses {lost:.1f} points and costs {cost:.0%} of {best.name}, the best"


def probe(
    store: str | Path,
    *,
    head: str = "softmax",
    split_column: str | None = None,
    test_size: float | None = None,
    folds: int = 5,
    repeats: int = 1,
    scoring: str = "accuracy",
    random_state: int = 0,
    timed: bool = True,
    compute: Compute | None = None,
) -> ProbeReport:
    """Evaluate a linear head on every run of neighboring blocks by cross-validation, on a store's training rows.

    Fits are a little rougher than those of `featx.fit.fit` (`TOLERANCE`), so that a score may differ by an image or
    two. Linear evaluation of layers is that of Alain & Bengio (2016), "Understanding intermediate layers using linear
    classifier probes".

    Parameters
    ----------
    store : path
        With labels, one an image.
    head, split_column, test_size, folds, repeats, scoring, random_state
        As in `featx.fit`.
    timed : bool
        Also measure the seconds per image of the backbone up to each depth, on this machine.
    compute : Compute, optional
        Engine and device for the timing.

    Raises
    ------
    StoreError, DataError
        If the store cannot be read, or its labels do not allow the folds.
    EngineError, WeightsError
        If the device, the engine or the weights to time are not there.
    """
    compute = compute or Compute()
    rows = read_training_rows(store, split_column=split_column, test_size=test_size, random_state=random_state)
    if rows.y.ndim == 2:
        raise DataError(f"probe takes one label an image, but images of {store} have several")
    try:
        seconds = time_depths(rows.spec, compute.device, compute.engine) if timed else {}
    except (WeightsError, SpecMismatch) as error:
        raise type(error)(f"{error}; or leave the times out with --no-time") from error
    runs = block_runs(rows.spec.blocks)
    sets = {
        name: [rows.spec.slices[feature_name(b, p)] for b in run for p in rows.spec.pools] for name, run in runs.items()
    }
    problem = make_problem(rows.X, rows.y, scoring=scoring, tol=TOLERANCE)
    candidates = cross_validate_sets(
        problem, make_feature_sets(sets, rows.X.shape[1]), make_grids([head]),
        make_folds(rows.y, rows.groups, folds, repeats, random_state, rows.plain), jobs=cpu_count(),
    )  # fmt: skip
    cells = min(len(rows.y), LOGME_ROWS) * rows.X.shape[1]
    logmes = run_parallel(lambda run: _logme(rows, run, random_state), list(runs.values()), workers_for(len(runs), cells),
                    lambda run: rows.spec.select(blocks=run).width)  # fmt: skip
    flops = backbone_flops(rows.spec.size)
    depths = []
    for (name, run), logme in zip(runs.items(), logmes, strict=True):
        best = max((row for row in candidates if row.feature_set == name), key=lambda row: row.mean)
        depths.append(
            Depth(name, run, best.C, best.mean, best.standard_error, logme, flops[run[-1]] / flops[max(flops)],
                  1000 * seconds[run[-1]] if timed else None, 4 * rows.spec.select(blocks=run).width)
        )  # fmt: skip
    depths.sort(key=lambda depth: (depth.blocks[-1], -depth.blocks[0]))
    return ProbeReport(str(store), head, scoring, int(rows.plain.sum()), tuple(depths))


def _logme(rows: TrainingRows, run: tuple[int, ...], seed: int) -> float:
    chosen = np.sort(np.random.default_rng(seed).permutation(len(rows.y))[:LOGME_ROWS])
    widths = rows.spec.select(blocks=run).widths
    X = np.concatenate([rows.X[chosen, rows.spec.slices[name]] for name in widths], axis=1)
    return log_maximum_evidence(BlockNormalizer(tuple(widths.values())).fit_transform(X), rows.y[chosen])


def draw_probe(report: ProbeReport, path: Path) -> None:
    """Score against cost, a point a run of blocks, as a picture; errors as `featx.drawing.figures`'s."""
    timed = report.depths[0].milliseconds is not None
    costs = [100 * depth.arithmetic if depth.milliseconds is None else depth.milliseconds for depth in report.depths]
    means, errors = [depth.mean for depth in report.depths], [depth.standard_error for depth in report.depths]
    figure, axes = make_figure(
        "ms an image" if timed else "% of the backbone's arithmetic", f"cross-validated {report.scoring}"
    )
    axes.errorbar(costs, means, errors, fmt="o", capsize=3)
    names: dict[tuple[float, float], list[str]] = {}
    for depth, x in zip(report.depths, costs, strict=True):
        names.setdefault((x, depth.mean), []).append(depth.name)
    for place, there in names.items():
        # Those of many that tie are aslant, so that they do not run into their neighbors'.
        slant = 40 if len(there) > 2 else 0
        axes.annotate(", ".join(there), place, xytext=(5, 4), textcoords="offset points", rotation=slant)
    save_figure(figure, path)
