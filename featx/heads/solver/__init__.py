"""All folds, C and classes of a linear head in one batch: the exact minima of sklearn's objectives, certified."""

from featx.heads.solver.batch import (
    CELLS,
    LOSSES,
    TOLERANCE,
    BatchFit,
    Fits,
    check_rows,
    fit_batch,
    fit_path,
    penalizes_intercept,
)
from featx.heads.solver.rotation import Rotated, rotate
from featx.heads.solver.row_weights import row_weights
from featx.heads.solver.triangle import make_triangle

__all__ = [
    "CELLS",
    "LOSSES",
    "TOLERANCE",
    "BatchFit",
    "Fits",
    "Rotated",
    "check_rows",
    "fit_batch",
    "fit_path",
    "make_triangle",
    "penalizes_intercept",
    "rotate",
    "row_weights",
]
