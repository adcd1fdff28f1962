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
from featx.heads.solver.cholesky_factor import cholesky_factor
from featx.heads.solver.principal_axes import PrincipalAxes, rotate
from featx.heads.solver.row_weights import row_weights

__all__ = [
    "CELLS",
    "LOSSES",
    "TOLERANCE",
    "BatchFit",
    "Fits",
    "PrincipalAxes",
    "check_rows",
    "cholesky_factor",
    "fit_batch",
    "fit_path",
    "penalizes_intercept",
    "rotate",
    "row_weights",
]
