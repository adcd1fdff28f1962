"""The decision of each class, from decisions as scikit-learn returns them."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray
from sklearn.pipeline import Pipeline

from featx.heads.pipeline.linear_heads import linear_parts


def class_decisions(decisions: ArrayLike) -> NDArray[Any]:
    """Return one decision per class, so that the predicted class has the largest decision.

    The two classes of a binary head share one decision d in scikit-learn. Here they get -d/2 and d/2. The difference of
    the two is d, so their softmax is the sigmoid of d, which is the probability of a logistic head.

    Parameters
    ----------
    decisions : float array (rows, classes), or (rows,) for two classes that exclude each other
        From ``decision_function``.

    Returns
    -------
    float array (rows, classes)
    """
    values = np.asarray(decisions)
    return values if values.ndim == 2 else np.column_stack((-values / 2, values / 2))


def class_linear_parts(pipeline: Pipeline, dtype: DTypeLike | None = np.float64) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the weights (classes, columns) and intercepts (classes,) that give `class_decisions`.

    `linear_parts` describes the parameters.
    """
    W, b = linear_parts(pipeline, dtype)
    return (W, b) if len(b) > 1 else (np.vstack((-W / 2, W / 2)), np.concatenate((-b / 2, b / 2)))
