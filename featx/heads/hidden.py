"""A hidden layer of a fine-tuned head, as a step of the pipeline between normalizer and linear head."""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

from featx.errors import DataError


class HiddenLayer(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """max(0, X W' + b): units that were trained with the head, by ``featx finetune``; fitting it learns nothing.

    Attributes
    ----------
    coef_ : float32 array (units, columns)
    intercept_ : float32 array (units,)
    n_features_in_ : int
    """

    @classmethod
    def from_parts(cls, coef: NDArray[np.float32], intercept: NDArray[np.float32]) -> "HiddenLayer":
        """A fitted layer from its weights (units, columns) and intercepts (units,)."""
        if coef.ndim != 2 or intercept.shape != coef.shape[:1]:
            raise DataError(
                "a hidden layer has weights (units, columns) and intercepts (units,), got shapes "
                f"{coef.shape} and {intercept.shape}"
            )
        layer = cls()
        layer.coef_, layer.intercept_, layer.n_features_in_ = coef, intercept, coef.shape[1]
        return layer

    def fit(self, X: ArrayLike, y: object = None) -> "HiddenLayer":
        """Return self, if it has weights: they come from training, and from nowhere else."""
        check_is_fitted(self, "coef_")
        return self

    def transform(self, X: ArrayLike) -> NDArray[np.floating]:
        """Rows (n, columns) to (n, units)."""
        check_is_fitted(self, "coef_")
        units: NDArray[np.floating] = np.maximum(np.asarray(X) @ self.coef_.T + self.intercept_, 0)
        return units


def hidden_of(pipeline: Pipeline) -> HiddenLayer | None:
    """The hidden layer of a head, if it has one."""
    found: HiddenLayer | None = pipeline.named_steps.get("hidden")
    return found


def with_hidden(pipeline: Pipeline, layer: HiddenLayer | None) -> Pipeline:
    """The pipeline with a hidden layer before its head, which takes the layer's units."""
    if layer is None:
        return pipeline
    normalizer, head = pipeline.steps
    return Pipeline([normalizer, ("hidden", layer), head])
