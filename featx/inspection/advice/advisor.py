"""Advise which way of transfer learning fits a data set, from measurements on it."""

from dataclasses import dataclass
from pathlib import Path

from featx.errors import DataError
from featx.inspection.advice.cases import choose_depth, describe_gain, find_case, list_commands
from featx.inspection.advice.caveats import list_caveats
from featx.inspection.advice.dataset_size import DatasetSize, measure_size
from featx.inspection.advice.similarity import Similarity, distances_from_photographs, measure_similarity
from featx.inspection.depth_probe import ProbeReport, probe
from featx.models import read_training_rows

C_FACTORS = (0.1, 1.0, 10.0)
"""Factors by which the C of the probe is multiplied. The probe chose C on all images, but fewer images may need another
C."""


@dataclass(frozen=True, repr=False)
class Advice:
    """Which of the four cases of size and similarity a data set belongs to, and what to do.

    Parameters
    ----------
    store, head : str
        The store, and the head that was measured.
    size : DatasetSize
    similarity : Similarity
    case : str
        ``small, similar``, ``large, similar``, ``small, different`` or ``large, different``.
    strategy : str
        What to do in this case.
    recommendation : str
        The case, the scores and the strategy in one sentence.
    blocks : tuple of int
        Blocks to fit the head on.
    commands : tuple of str
        Command lines to run, in order.
    expected_gain, forecast : str
        What the strategy gains, and the accuracy that more images would give. Each is one sentence.
    caveats : tuple of str
        Reasons to doubt the advice.
    """

    store: str
    head: str
    size: DatasetSize
    similarity: Similarity
    case: str
    strategy: str
    recommendation: str
    blocks: tuple[int, ...]
    commands: tuple[str, ...]
    expected_gain: str
    forecast: str
    caveats: tuple[str, ...]

    def __repr__(self) -> str:
        lines = (f"Advice({self.recommendation})", *self.commands, *(f"caveat: {caveat}" for caveat in self.caveats))
        return "\n  ".join(lines)


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
    """Advise which way of transfer learning fits the training images of a store.

    A data set may be small or large, and similar to the images that the backbone was trained on or different. Each of
    these four cases has a strategy. Size is measured by the number of images per class and by the learning curve of
    a linear head. Similarity is measured by the best depths and by feature statistics.

    Parameters
    ----------
    store : path
        A store with one label per image.
    split_column, test_size, folds, random_state
        As in `featx.fit`.
    more : int, optional
        Forecast the accuracy with this many more images per class. The default is the present number per class.
    root : path, optional
        Folder of the images, for the commands.
    probed : ProbeReport, optional
        The result of `featx.probe` with the same options, if it is available.

    Returns
    -------
    Advice

    Raises
    ------
    StoreError
        If the store cannot be read.
    DataError
        If the store is multi-label, or no class has enough images for a learning curve.
    """
    if more is not None and more < 1:
        raise DataError(f"--more of advise must be at least 1, got {more}")
    rows = read_training_rows(store, split_column=split_column, test_size=test_size, random_state=random_state)
    if rows.y.ndim == 2:
        raise DataError(f"advise needs one label per image, but {store} is multi-label")
    probed = probed or probe(
        store, split_column=split_column, test_size=test_size, folds=folds, random_state=random_state, timed=False
    )
    best, pixels = probed.best, rows.spec.size
    size = measure_size(rows, best.blocks, probed.head, [factor * best.C for factor in C_FACTORS], more, random_state)
    similarity = measure_similarity(probed, distances_from_photographs(rows.spec, rows.X[rows.plain]), pixels)
    case = find_case(size, similarity)
    depth = choose_depth(case, probed)
    return Advice(
        store=str(store),
        head=probed.head,
        size=size,
        similarity=similarity,
        case=case.name,
        strategy=case.strategy,
        recommendation=_recommend(size, similarity, case.name, case.strategy),
        blocks=depth.blocks,
        commands=list_commands(case, depth, probed.head, store, rows.selection, root),
        expected_gain=describe_gain(case, depth, probed, size),
        forecast=_describe_forecast(size),
        caveats=list_caveats(size, similarity, probed, pixels),
    )


def _recommend(size: DatasetSize, similarity: Similarity, case: str, strategy: str) -> str:
    score = "not measured" if similarity.score is None else f"{similarity.score:.2f}"
    return (
        f"{case} (size {size.score:.2f}: {size.per_class:.0f} images per class, twice as many would gain "
        f"{100 * size.doubling.accuracy:.1f} points; similarity {score}): {strategy}"
    )


def _describe_forecast(size: DatasetSize) -> str:
    now, then = size.forecasts
    if size.curve[-1].mean == 1:
        return "no forecast, because the head makes no errors"
    return (
        f"{size.gain.more} more images per class would raise accuracy from {now.accuracy:.3f} (by the fitted curve) to "
        f"about {then.accuracy:.3f} ({then.low:.3f}–{then.high:.3f})"
    )
