"""Values of C that a search tries for each head."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featx.errors import SpecError
from featx.heads.pipeline.linear_heads import HEADS, MULTILABEL_HEADS

DEFAULT_CS = {
    "linear-svc": (0.1, 0.3, 1.0, 3.0, 10.0),
    "softmax": (1.0, 10.0, 100.0, 1_000.0, 10_000.0),
    "ovr-logistic": (1.0, 10.0, 100.0, 1_000.0, 10_000.0),
}
"""Values of C around the best ones on power-normalized features of Flowers-17. The score of a logistic head changes
little if C grows by a factor of 1,000, so its grid is coarser."""
DEFAULT_VARIANCE = 0.5
"""Sum of the column variances of these Flowers-17 features. If C × variance is the same, C has the same effect."""

Grids = Mapping[str, tuple[float, ...]]
"""Sorted values of C of each head."""
OpenGrids = Mapping[str, tuple[float, ...] | None]
"""Sorted values of C of each head. None stands for the default grid, which depends on the features."""


def make_grids(
    heads: Sequence[str], Cs: Mapping[str, Sequence[float]] | Sequence[float] | None = None, multilabel: bool = False
) -> OpenGrids:
    """Return the sorted values of C of each head. None stands for the default grid, which depends on the features.

    ``softmax`` is left out for multi-label rows, unless it is the only head.

    Raises
    ------
    SpecError
        If a head is unknown, or no head can be fitted.
    """
    heads = (heads,) if isinstance(heads, str) else tuple(heads)
    if not heads or (unknown := [head for head in heads if head not in HEADS]):
        got = repr(unknown[0]) if heads else "none"
        raise SpecError(f"heads must be among {', '.join(HEADS)}, got {got}")
    if multilabel:
        heads = tuple(head for head in heads if head in MULTILABEL_HEADS)
        if not heads:
            raise SpecError(f"heads for multi-label targets must be among {', '.join(MULTILABEL_HEADS)}, got softmax")
    given = Cs if isinstance(Cs, Mapping) else dict.fromkeys(heads, Cs)
    grids = {head: given.get(head) for head in heads}
    return {head: None if grid is None else tuple(sorted({float(C) for C in grid})) for head, grid in grids.items()}


def default_grid(head: str, X: NDArray[Any]) -> tuple[float, ...]:
    """Return ``DEFAULT_CS`` of a head, times the power of ten that suits the variance of X (rows, columns)."""
    variance = float(X.var(axis=0, dtype=np.float64).sum())
    power = round(np.log10(DEFAULT_VARIANCE / variance)) if variance > 0 else 0
    return tuple(float(f"{C * 10.0**power:.6g}") for C in DEFAULT_CS[head])
