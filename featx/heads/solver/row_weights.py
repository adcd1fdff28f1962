"""What each row counts in each fold, as sklearn's estimators count it."""

from collections.abc import Mapping

import numpy as np

from featx.errors import SpecError
from featx.heads.solver.losses import Array

ClassWeight = Mapping[int, float] | str | None


def row_weights(codes: Array, trained: Array, loss: str, n_classes: int, class_weight: ClassWeight = None) -> Array:
    """Weights (folds, n), or (folds, classes, n) where they depend on the class, for `fit_batch`.

    ``balanced`` is what each of sklearn's estimators makes of it from the rows of one fold, counted by their sample
    weights; one-vs-rest balances each class against all others. liblinear weighs only the positive side of each
    class's problem, where rows have one class each.

    Parameters
    ----------
    codes : int array (n,), or bool array (n, n_classes)
        Class of each row, 0 to n_classes - 1; or which classes each row has.
    trained : float array (folds, n)
        Sample weight of each row of a fold, 0 for rows held out.
    loss : str
        As in `fit_batch`.
    n_classes : int
    class_weight : dict of code to weight, "balanced" or None
        A class that is not in the dict weighs 1; one-vs-rest takes no dict, as sklearn's cannot.

    Raises
    ------
    SpecError
        If class_weight is none of these.
    """
    if class_weight is None:
        return trained
    several = codes.ndim == 2
    if class_weight != "balanced" and (isinstance(class_weight, str) or several):
        allowed = "balanced or none" if several else "balanced, a dict or none"
        raise SpecError(f"class_weight of {loss} must be {allowed}, got {class_weight!r}")
    member = (codes.T if several else codes == np.arange(n_classes)[:, np.newaxis]).astype(float)
    totals = trained @ member.T
    if class_weight == "balanced" and (several or (loss == "ovr-logistic" and n_classes > 2)):
        everything = trained.sum(axis=1, keepdims=True)
        own, rest = everything / (2 * totals), everything / (2 * (everything - totals))
        return np.asarray(trained[:, np.newaxis] * np.where(member > 0, own[..., np.newaxis], rest[..., np.newaxis]))
    factors = _factors(class_weight, totals)
    if loss == "linear-svc" and n_classes > 2:
        return np.asarray(trained[:, np.newaxis] * np.where(member > 0, factors[..., np.newaxis], 1))
    return np.asarray(trained * factors[:, codes])


def _factors(class_weight: Mapping[int, float] | str, totals: Array) -> Array:
    """Weight of each class in each fold (folds, classes)."""
    if isinstance(class_weight, str):
        return np.asarray(totals.sum(axis=1, keepdims=True) / (totals.shape[1] * totals))
    row = [class_weight.get(code, 1.0) for code in range(totals.shape[1])]
    return np.tile(row, (len(totals), 1))
