"""How alike images are to those that the backbone was trained on: photographs of things, as in ImageNet."""

from dataclasses import dataclass

from featx.backbones import BLOCK_NUMBERS
from featx.inspection.advice.thresholds import DISTANCE, SMALLEST_FOR_DEPTH
from featx.inspection.depth_probe import Depth, ProbeReport

DEEPEST = BLOCK_NUMBERS[-1]


@dataclass(frozen=True)
class Likeness:
    """The score, from 0 (unlike) to 1 (alike), the mean of those parts that could be measured; None without any.

    ``depth`` tells where the shallowest run within one standard error of the best ends: 1 at block 5, as deep as it
    goes, 0.5 at block 4, 0 before; None where block 5 by itself is as good as any.
    ``loss`` weighs the errors of block 5 against those of the best earlier block: 0.5 if they are equal.
    ``statistics`` is what the mean distance from photographs comes to: 0.5 at ``DISTANCE``.
    ``best`` and ``frugal`` are the probe's; ``last_block_loss`` is the accuracy that block 5 loses against the best
    earlier block, below 0 if it gains; ``distances`` are by block, as `featx.inspection.advice.reference.distances` gives them.
    """

    score: float | None
    depth: float | None
    loss: float | None
    statistics: float | None
    best: str
    frugal: str
    last_block_loss: float | None
    distances: dict[int, float]

    @property
    def parts(self) -> dict[str, float]:
        """Those parts that were measured, by name."""
        parts = {"depth": self.depth, "loss": self.loss, "statistics": self.statistics}
        return {name: part for name, part in parts.items() if part is not None}


def measure_likeness(probed: ProbeReport, distances: dict[int, float], size: int) -> Likeness:
    """Likeness from the depths and from feature statistics, of images of ``size`` pixels.

    At fewer than ``SMALLEST_FOR_DEPTH`` pixels block 5 has too few positions to be as good as it can be, on
    photographs too, and the parts that tell by depth are left out.
    """
    alone = {depth.blocks[0]: depth for depth in probed.depths if len(depth.blocks) == 1}
    earlier = [depth for block, depth in alone.items() if block < DEEPEST]
    last_block_loss, depth, loss = None, None, None
    if DEEPEST in alone and earlier:
        before = max(earlier, key=lambda one: one.mean)
        last_block_loss = before.mean - alone[DEEPEST].mean
        if size >= SMALLEST_FOR_DEPTH:
            # Where block 5 is as good as any, that an earlier run is too says nothing: all are at the ceiling.
            if alone[DEEPEST].mean < probed.best.mean:
                depth = max(0.0, 1 - (DEEPEST - probed.one_se.blocks[-1]) / 2)
            loss = 1 / (1 + (_errors(alone[DEEPEST], probed.rows) / _errors(before, probed.rows)) ** 2)
    mean = sum(distances.values()) / len(distances) if distances else None
    statistics = None if mean is None else 1 / (1 + (mean / DISTANCE) ** 2)
    measured = [part for part in (depth, loss, statistics) if part is not None]
    score = sum(measured) / len(measured) if measured else None
    return Likeness(score, depth, loss, statistics, probed.best.name, probed.one_se.name, last_block_loss, distances)


def _errors(depth: Depth, rows: int) -> float:
    """Wrong rows, and one more, so that a ratio of few of them does not go to extremes."""
    return (1 - depth.mean) * rows + 1
