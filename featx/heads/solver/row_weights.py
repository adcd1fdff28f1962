"""Weight of each row in each fold, as scikit-learn's estimators compute it."""

from collections.abc import Mapping

import numpy as np

from featx.errors import SpecError
from featx.heads.solver.loss_functions import Array

ClassWeight = Mapping[int, float] | str | None


def row_weights(codes: Array, trained: Array, loss: str, n_classes: int, class_weight: ClassWeight = None) -> Array:
    """Combine sample weights and class weights into the weights that `fit_batch` takes.

    ``balanced`` weights are computed from the training rows of each fold and their sample weights, as the estimators of
    scikit-learn do. ``ovr-logistic`` balances each class against all others. In ``linear-svc``, liblinear weights only
    the positive side of the problem of each class.

    Parameters
    ----------
    codes : int array (n,), or bool array (n, n_classes)
        Class of each row, 0 to n_classes - 1, or a multi-label indicator.
    trained : float array (folds, n)
        Sample weight of each row in each fold, 0 for held-out rows.
    loss : str
        As in `fit_batch`.
    n_classes : int
    class_weight : dict of code to weight, "balanced" or None
        Classes that are not in the dict have weight 1. ``ovr-logistic`` weights all rows of a class by the entry of
        that class. Multi-label rows take no dict.

    Returns
    -------
    array (folds, n), or (folds, classes, n) if the weights depend on the class

    Raises
    ------
    SpecError
        If ``class_weight`` is out of range.
    """
    if class_weight is None:
        return trained
    multilabel = codes.ndim == 2
    if class_weight != "balanced" and (isinstance(class_weight, str) or multilabel):
        allowed = "'balanced' or None" if multilabel else "'balanced', a dict or None"
        raise SpecError(f"class_weight of {loss} must be {allowed}, got {class_weight!r}")
    member = (codes.T if multilabel else codes == np.arange(n_classes)[:, np.newaxis]).astype(float)
    totals = trained @ member.T
    if class_weight == "balanced" and (multilabel or (loss == "ovr-logistic" and n_classes > 2)):
        everything = trained.sum(axis=1, keepdims=True)
        own, rest = everything / (2 * totals), everything / (2 * (everything - totals))
        return np.asarray(trained[:, np.newaxis] * np.where(member > 0, own[..., np.newaxis], rest[..., np.newaxis]))
    factors = _class_factors(class_weight, totals)
    if loss == "linear-svc" and n_classes > 2:
        return np.asarray(trained[:, np.newaxis] * np.where(member > 0, factors[..., np.newaxis], 1))
    return np.asarray(trained * factors[:, codes])


def _class_factors(class_weight: Mapping[int, float] | str, totals: Array) -> Array:
    """Return the weight of each class in each fold (folds, classes)."""
    if isinstance(class_weight, str):
        return np.asarray(totals.sum(axis=1, keepdims=True) / (totals.shape[1] * totals))
    row = [class_weight.get(code, 1.0) for code in range(totals.shape[1])]
    return np.tile(row, (len(totals), 1))
