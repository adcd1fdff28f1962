"""Which columns of the features a head sees."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from featx.errors import SpecError

Range = slice | tuple[int, int]


@dataclass(frozen=True)
class FeatureSet:
    """Some of the features, by name: ``ranges`` are their columns in X, in the order in which the head sees them."""

    name: str
    features: tuple[str, ...]
    ranges: tuple[tuple[int, int], ...]

    @property
    def widths(self) -> tuple[int, ...]:
        """Columns of each feature, as `BlockNormalizer` takes them."""
        return tuple(stop - start for start, stop in self.ranges)

    @property
    def columns(self) -> int:
        """Columns in all."""
        return sum(self.widths)

    def select(self, X: NDArray[np.floating]) -> NDArray[np.floating]:
        """The set's columns of X (rows, all columns); a view where they stand side by side."""
        joined = all(self.ranges[i][1] == self.ranges[i + 1][0] for i in range(len(self.ranges) - 1))
        if joined:
            return X[:, self.ranges[0][0] : self.ranges[-1][1]]
        return np.concatenate([X[:, start:stop] for start, stop in self.ranges], axis=1)


def default_feature_sets(features: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Each block alone, and the runs of blocks that end at the last: for five blocks nine sets.

    Features named like ``block3_avg`` belong to their block, whatever their pool; any other is a block of its own.
    """
    blocks: dict[str, list[str]] = {}
    for name in features:
        blocks.setdefault(name.rsplit("_", 1)[0], []).append(name)
    runs = [[block] for block in blocks] + [list(blocks)[start:] for start in range(len(blocks) - 2, -1, -1)]
    return {"+".join(run): tuple(name for block in run for name in blocks[block]) for run in runs}


def make_feature_sets(
    features: Mapping[str, Range], sets: Mapping[str, Sequence[str]] | None, columns: int
) -> list[FeatureSet]:
    """The sets with their ranges; ``SpecError`` if a range is not within X's columns or a set names no feature."""
    ranges = {name: _bounds(name, value, columns) for name, value in features.items()}
    if not ranges:
        raise SpecError("features must name at least one range of columns, got none")
    chosen = default_feature_sets(list(ranges)) if sets is None else sets
    for name, members in chosen.items():
        unknown = [member for member in members if member not in ranges]
        if unknown or not members:
            raise SpecError(
                f"feature set {name} must name some of {', '.join(ranges)}, got {', '.join(unknown) or 'none'}"
            )
    if not chosen:
        raise SpecError("feature_sets must name at least one set, got none; leave it out for single blocks and runs")
    return [
        FeatureSet(name, tuple(members), tuple(ranges[member] for member in members))
        for name, members in chosen.items()
    ]


def _bounds(name: str, value: Range, columns: int) -> tuple[int, int]:
    start, stop = (value.start or 0, value.stop) if isinstance(value, slice) else value
    stop = columns if stop is None else stop
    if not 0 <= start < stop <= columns or (isinstance(value, slice) and value.step not in (None, 1)):
        raise SpecError(f"columns of feature {name} must be a range within 0 to {columns}, got {start} to {stop}")
    return int(start), int(stop)
