"""Compare the depths of the backbone: the accuracy of a linear head on each depth, and the cost of the depth."""

from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from joblib import cpu_count

from featx.backbones import backbone_flops
from featx.drawing import INK, SERIES, add_legend, make_figure, show_percent
from featx.engines import time_depths
from featx.errors import DataError, SpecMismatch, WeightsError
from featx.heads import (
    BlockNormalizer,
    count_workers,
    cross_validate_sets,
    find_rare_classes,
    log_maximum_evidence,
    make_feature_sets,
    make_folds,
    make_grids,
    make_problem,
    run_parallel,
)
from featx.models import TrainingRows, block_ranges, read_training_rows
from featx.runtime import Compute, pluralize

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TOLERANCE = 1e-5
"""Duality gap at which a fit stops, relative to the objective. The gap in `featx.fit` is ten times smaller, and fits
take a quarter longer. The larger gap changes the decision on about one held-out image in 7,000. This is far below the
standard error."""
LOGME_ROWS = 5000
"""Largest number of rows for LogME. The cost of LogME grows with the cube of this number."""


@dataclass(frozen=True)
class Depth:
    """The score and the cost of one range of consecutive blocks.

    Attributes
    ----------
    name : str
        ``"3-5"``, or ``"3"`` for a single block.
    blocks : tuple of int
    C : float
        The best value of the head's ``C``.
    mean, standard_error : float
        Mean cross-validated score at that ``C``, and its standard error.
    logme : float
        LogME: log evidence per row, computed without fitting a head (see `featx.heads.log_maximum_evidence`).
    arithmetic : float
        Floating-point operations up to the last block, as a fraction of the operations of the whole backbone.
    milliseconds : float or None
        Time of the backbone per image up to the last block; None if it was not measured.
    bytes : int
        Size of the features per image, in float32.
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
    """The result of `probe`: score and cost of every range of blocks, shallow ranges first.

    Attributes
    ----------
    store, head, scoring : str
    rows : int
        Number of images that were scored.
    depths : tuple of Depth
    notes : tuple of str
        What the scores do not cover, and other remarks on the classes and groups.
    """

    store: str
    head: str
    scoring: str
    rows: int
    depths: tuple[Depth, ...]
    notes: tuple[str, ...] = ()

    @property
    def best(self) -> Depth:
        """The depth with the highest score."""
        return max(self.depths, key=lambda depth: depth.mean)

    @property
    def near_best(self) -> list[Depth]:
        """The best depth, and all other depths within one standard error of the best."""
        return [depth for depth in self.depths if depth.mean >= self.best.mean - self.best.standard_error]

    @property
    def one_se(self) -> Depth:
        """The one-standard-error choice: the shallowest depth near the best.

        If several are equally shallow, it is the one with the highest score.
        """
        last = min(depth.blocks[-1] for depth in self.near_best)
        return max((depth for depth in self.near_best if depth.blocks[-1] == last), key=lambda depth: depth.mean)

    @property
    def advice(self) -> str:
        """One sentence that says what the one-standard-error choice saves and loses."""
        best, choice = self.best, self.one_se
        if best is choice:
            others = len(self.near_best) - 1
            more = f"; {pluralize(others, 'range')} of the same depth or deeper {'does' if others == 1 else 'do'}"
            return (
                f"the range {best.name} is the best, and no shallower one comes within one standard error of it"
                f"{more if others else ''}"
            )
        lost, cost = 100 * (best.mean - choice.mean), choice.arithmetic / best.arithmetic
        return (
            f"the range {choice.name} loses {lost:.1f} points against {best.name}, the best, and needs {cost:.0%} of "
            "its arithmetic"
        )

    def __repr__(self) -> str:
        lines = [f"ProbeReport of {self.store}: {self.head}, {self.scoring} on {self.rows:,} images"]
        lines += [f"  {row[0]:<10}{row[1]} ± {row[2]}" for row in self._table()]
        return "\n".join([*lines, f"  {self.advice}", *(f"  note: {note}" for note in self.notes)])

    def _repr_html_(self) -> str:
        """Show the report as a table in a notebook."""
        names = ("blocks", self.scoring, "± s.e.", "C", "LogME", "arithmetic", "ms per image", "bytes per image")
        head = "".join(f"<th>{escape(name)}</th>" for name in names)
        rows = ["".join(f"<td>{value}</td>" for value in row) for row in self._table()]
        body = "".join(f"<tr>{row}</tr>" for row in rows)
        caption = f"<caption>{escape(self.advice)}</caption>"
        return f"<table>{caption}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"

    def _table(self) -> list[tuple[str, ...]]:
        """One row of texts per depth."""
        return [
            (depth.name, f"{depth.mean:.4f}", f"{depth.standard_error:.4f}", f"{depth.C:g}", f"{depth.logme:.3f}",
             f"{depth.arithmetic:.0%}", "–" if depth.milliseconds is None else f"{depth.milliseconds:.1f}",
             f"{depth.bytes:,}")
            for depth in self.depths
        ]  # fmt: skip


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
    """Score a linear head on every range of consecutive blocks, by cross-validation on a store's training rows.

    Groups in the column ``group`` of the store stay together, and rare classes are treated as in `featx.fit`.

    Alain & Bengio (2016), "Understanding intermediate layers using linear classifier probes", evaluate layers in this
    way. Fits stop a little earlier than in `featx.fit`, so scores may differ by one or two images.

    Parameters
    ----------
    store : path
        A store with one label per image.
    head : {"linear-svc", "softmax", "ovr-logistic"}
    split_column, test_size, folds, repeats, scoring, random_state
        As in `featx.Validation`.
    timed : bool
        Also measure how long the backbone takes per image up to each depth, on this machine.
    compute : Compute, optional
        Engine and device for measuring the time.

    Returns
    -------
    ProbeReport

    Raises
    ------
    StoreError, DataError
        If the store cannot be read, or its labels do not allow the folds.
    SpecError
        If ``compute`` sets a field other than engine and device.
    EngineError, WeightsError
        If the device, the engine or the weights for the timing are not available.
    """
    compute = compute or Compute()
    compute.check_unused("probe", "batch_size", "workers", "max_pixels", "executor", "shard")
    rows = read_training_rows(store, split_column=split_column, test_size=test_size, random_state=random_state)
    if rows.y.ndim == 2:
        raise DataError(f"probe takes one label per image, but images of {store} have several")
    try:
        seconds = time_depths(rows.spec, compute.device, compute.engine) if timed else {}
    except (WeightsError, SpecMismatch) as error:
        raise type(error)(f"{error}; or skip the timing with --no-time") from error
    ranges = block_ranges(rows.spec.blocks)
    sets = {
        name: [rows.spec.slices[feature] for feature in rows.spec.select(blocks=blocks).widths]
        for name, blocks in ranges.items()
    }
    problem = make_problem(rows.X, rows.y, scoring=scoring, tol=TOLERANCE)
    splits = make_folds(rows.y, rows.groups, folds, repeats, random_state, rows.plain)
    rare = find_rare_classes(rows.y, rows.groups, splits, folds, plain=rows.plain)
    candidates = cross_validate_sets(
        problem, make_feature_sets(sets, rows.X.shape[1]), make_grids([head]), splits, jobs=cpu_count()
    )
    cells = min(len(rows.y), LOGME_ROWS) * rows.X.shape[1]
    logmes = run_parallel(
        lambda blocks: _logme(rows, blocks, random_state), list(ranges.values()), count_workers(len(ranges), cells),
        lambda blocks: rows.spec.select(blocks=blocks).width,
    )  # fmt: skip
    flops = backbone_flops(rows.spec.size)
    depths = []
    for (name, blocks), logme in zip(ranges.items(), logmes, strict=True):
        best = max((row for row in candidates if row.feature_set == name), key=lambda row: row.mean)
        depths.append(
            Depth(name, blocks, best.C, best.mean, best.standard_error, logme, flops[blocks[-1]] / flops[max(flops)],
                  1000 * seconds[blocks[-1]] if timed else None, 4 * rows.spec.select(blocks=blocks).width)
        )  # fmt: skip
    depths.sort(key=lambda depth: (depth.blocks[-1], -depth.blocks[0]))
    scored = int(rows.plain.sum()) - rare.untested_rows
    return ProbeReport(str(store), head, scoring, scored, tuple(depths), (*rows.notes, *rare.messages(rows.unit)))


def _logme(rows: TrainingRows, blocks: tuple[int, ...], seed: int) -> float:
    chosen = np.sort(np.random.default_rng(seed).permutation(len(rows.y))[:LOGME_ROWS])
    widths = rows.spec.select(blocks=blocks).widths
    X = np.concatenate([rows.X[chosen, rows.spec.slices[name]] for name in widths], axis=1)
    return log_maximum_evidence(BlockNormalizer(tuple(widths.values())).fit_transform(X), rows.y[chosen])


def plot_probe(report: ProbeReport) -> "Figure":
    """Draw the score by depth: for each block, the best range of blocks that ends at it, and the block alone.

    The cost up to a block is written below the block.

    Raises
    ------
    EngineError
        If matplotlib is not installed.
    """
    alone = [depth for depth in report.depths if len(depth.blocks) == 1]
    ending = [[depth for depth in report.depths if depth.blocks[-1] == single.blocks[0]] for single in alone]
    best = [max(depths, key=lambda depth: depth.mean) for depths in ending]
    timed = report.depths[0].milliseconds is not None
    figure, axes = make_figure(
        "milliseconds per image up to that block" if timed else "share of the backbone's arithmetic up to that block",
        f"cross-validated {report.scoring}",
    )
    places = range(len(alone))
    axes.plot(places, [depth.mean for depth in alone], "o:", color=SERIES[1], markersize=4, label="that block alone")
    means, errors = [depth.mean for depth in best], [depth.standard_error for depth in best]
    axes.errorbar(places, means, errors, fmt="o-", color=SERIES[0], markersize=5, capsize=3,
                  label="best range of blocks ending there, ± one standard error")  # fmt: skip
    for place, depth in zip(places, best, strict=True):
        axes.annotate(depth.name, (place, depth.mean + depth.standard_error), xytext=(0, 4), ha="center",
                      textcoords="offset points", fontsize=9, color=INK, weight="bold")  # fmt: skip
    axes.set_xticks(places, [f"block {depth.name}\n{_cost(depth)}" for depth in alone])
    axes.margins(x=0.08, y=0.12)
    if all(0 <= value <= 1 for value in means):
        show_percent(axes.yaxis)
    add_legend(figure, axes)
    return figure


def _cost(depth: Depth) -> str:
    return f"{depth.arithmetic:.0%}" if depth.milliseconds is None else f"{depth.milliseconds:.3g} ms"
