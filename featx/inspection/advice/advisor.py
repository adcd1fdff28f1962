"""Advise: which way of transfer learning fits the data at hand, by evidence measured on it."""

from dataclasses import dataclass
from pathlib import Path

from featx.errors import DataError
from featx.inspection.advice.cases import blocks_of, case_of, commands_of, expected_gain
from featx.inspection.advice.caveats import caveats_of
from featx.inspection.advice.likeness import Likeness, measure_likeness
from featx.inspection.advice.reference import distances
from featx.inspection.advice.size import Size, measure_size
from featx.inspection.depth_probe import ProbeReport, probe
from featx.models import read_training_rows

NEIGHBORS = (0.1, 1.0, 10.0)
"""Of the probe's C, which was chosen on all images: what a learning curve tries at each number of them."""


@dataclass(frozen=True)
class Advice:
    """Where the data lie on the plane, and what to do.

    ``case`` is one of ``small, alike``, ``large, alike``, ``small, unlike`` and ``large, unlike``; ``way`` says in
    words what it means, ``recommendation`` also why; ``blocks`` are those that the head is fitted on; ``commands`` are
    the lines to type; ``forecast`` is one sentence; ``caveats`` say where evidence is thin.
    """

    store: str
    head: str
    size: Size
    likeness: Likeness
    case: str
    way: str
    recommendation: str
    blocks: tuple[int, ...]
    commands: tuple[str, ...]
    expected_gain: str
    forecast: str
    caveats: tuple[str, ...]


def advise(
    store: str | Path,
    *,
    split_column: str | None = None,
    test_size: float | None = None,
    more: int | None = None,
    root: str | Path | None = None,
    folds: int = 5,
    random_state: int = 0,
    probed: ProbeReport | None = None,
) -> Advice:
    """Say which way of transfer learning fits a store's training images.

    The textbook's table has four cases: data may be small or large, and alike or unlike what the backbone was trained
    on. Here both axes are measured (see `featx.inspection.advice.size`, `featx.inspection.advice.likeness`) and divided by
    `featx.inspection.advice.thresholds`.

    Parameters
    ----------
    store : path
        With labels, one an image.
    split_column, test_size, folds, random_state
        As in `featx.fit.fit`.
    more : int, optional
        Images a class that might be added, for the forecast; by default as many again.
    root : path, optional
        The folder of the images, for the commands.
    probed : ProbeReport, optional
        What `featx.probe.probe` gave with the same options, if that is known.

    Raises
    ------
    StoreError, DataError
        If the store cannot be read, its images have several labels, or a class has too few for the folds.
    """
    if more is not None and more < 1:
        raise DataError(f"--more of advise must be 1 or more, got {more}")
    rows = read_training_rows(store, split_column=split_column, test_size=test_size, random_state=random_state)
    if rows.y.ndim == 2:
        raise DataError(f"advise takes one label an image, but images of {store} have several")
    probed = probed or probe(
        store, split_column=split_column, test_size=test_size, folds=folds, random_state=random_state, timed=False
    )
    best = probed.best
    size = measure_size(rows, best.blocks, probed.head, [factor * best.C for factor in NEIGHBORS], more, random_state)
    likeness = measure_likeness(probed, distances(rows.spec, rows.X[rows.plain]), rows.spec.size)
    case = case_of(size, likeness)
    depth = blocks_of(case, probed)
    return Advice(
        store=str(store),
        head=probed.head,
        size=size,
        likeness=likeness,
        case=case.name,
        way=case.way,
        recommendation=_recommend(size, likeness, case.name, case.way),
        blocks=depth.blocks,
        commands=commands_of(case, depth, probed.head, store, rows.selection, root),
        expected_gain=expected_gain(case, depth, probed, size),
        forecast=_forecast(size),
        caveats=caveats_of(size, likeness, probed, rows.spec.size),
    )


def _recommend(size: Size, likeness: Likeness, case: str, way: str) -> str:
    alike = "not measured" if likeness.score is None else f"{likeness.score:.2f}"
    return (
        f"{case} ({size.per_class:.0f} images a class, of which as many again would bring "
        f"{100 * size.doubling.accuracy:.1f} points: size {size.score:.2f}; likeness {alike}): {way}"
    )


def _forecast(size: Size) -> str:
    now, then = size.forecasts
    if size.curve[-1].mean == 1:
        return "there are no errors left to forecast from"
    return (
        f"{size.gain.more} more images a class would bring {now.accuracy:.3f}, by the fitted curve, to about "
        f"{then.accuracy:.3f} ({then.low:.3f}–{then.high:.3f})"
    )
