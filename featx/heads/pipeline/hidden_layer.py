"""Hidden layer of a fine-tuned head: the step of the pipeline between normalizer and linear head."""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

from featx.errors import DataError


class HiddenLayer(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Transform rows to max(0, X Wᵀ + b), with weights that ``featx finetune`` trained. ``fit`` learns nothing.

    Attributes
    ----------
    coef_ : float32 array (units, columns)
    intercept_ : float32 array (units,)
    n_features_in_ : int
    """

    @classmethod
    def from_parts(cls, coef: NDArray[np.float32], intercept: NDArray[np.float32]) -> "HiddenLayer":
        """Return a fitted layer with the given weights (units, columns) and intercepts (units,)."""
        if coef.ndim != 2 or intercept.shape != coef.shape[:1]:
            raise DataError(
                "a hidden layer has weights (units, columns) and intercepts (units,), got shapes "
                f"{coef.shape} and {intercept.shape}"
            )
        layer = cls()
        layer.coef_, layer.intercept_, layer.n_features_in_ = coef, intercept, coef.shape[1]
        return layer

    def fit(self, X: ArrayLike, y: object = None) -> "HiddenLayer":
        """Return self if the layer has weights. Weights come only from training the layer together with the head."""
        check_is_fitted(self, "coef_")
        return self

    def transform(self, X: ArrayLike) -> NDArray[np.floating]:
        """Return the outputs (rows, units) for X (rows, columns)."""
        check_is_fitted(self, "coef_")
        units: NDArray[np.floating] = np.maximum(np.asarray(X) @ self.coef_.T + self.intercept_, 0)
        return units


def get_hidden_layer(pipeline: Pipeline) -> HiddenLayer | None:
    """Return the hidden layer of a pipeline, or None if it has none."""
    found: HiddenLayer | None = pipeline.named_steps.get("hidden")
    return found


def add_hidden_layer(pipeline: Pipeline, layer: HiddenLayer | None) -> Pipeline:
    """Return the pipeline with a hidden layer before its head. The head must take the outputs of the layer."""
    if layer is None:
        return pipeline
    normalizer, head = pipeline.steps
    return Pipeline([normalizer, ("hidden", layer), head])
