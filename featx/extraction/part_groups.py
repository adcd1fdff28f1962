"""Which images make a part, and which parts a shard makes."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from featx.errors import SpecError

Group = NDArray[np.int64]
"""The rows of a listing that make one part, rising."""


@dataclass(frozen=True)
class Shard:
    """One of ``count`` shards, numbered from 1: every ``count``-th group, so that all have images of all kinds."""

    number: int
    count: int

    @classmethod
    def parse(cls, text: str) -> "Shard":
        """Read ``3/16``; ``SpecError`` if it is none."""
        match = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text)
        if not match or not 1 <= int(match[1]) <= int(match[2]):
            raise SpecError(f"--shard of extract must be N/COUNT with N from 1 to COUNT, such as 3/16, got {text!r}")
        return cls(int(match[1]), int(match[2]))

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    def pick(self, groups: Sequence[Group]) -> list[Group]:
        """The groups that are this shard's."""
        return list(groups[self.number - 1 :: self.count])


def plan_groups(rows: Group, each: int) -> list[Group]:
    """Deal out rows in order, ``each`` to a group; the last may have fewer."""
    return [rows[first : first + each] for first in range(0, len(rows), each)]
