"""A fitted pipeline as JSON and arrays, from which an equal one is made: what a saved model holds of its head."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from featx.errors import ModelError
from featx.heads.normalizer import BlockNormalizer
from featx.heads.pipelines import from_linear_parts, linear_parts

_SCALER_ARRAYS = ("mean", "scale", "var")

Arrays = dict[str, NDArray[Any]]


def take_state(pipeline: Pipeline) -> tuple[dict[str, Any], Arrays]:
    """What of a fitted pipeline goes into JSON, and its arrays by name; ``ModelError`` for another normalizer."""
    kind, parameters, arrays = _take_normalizer(pipeline.named_steps["normalizer"])
    document = {
        "head_parameters": _head_parameters(pipeline.named_steps["head"]),
        "normalizer": kind,
        "normalizer_parameters": parameters,
    }
    weight, bias = linear_parts(pipeline, None)
    return document, {"weight": weight, "bias": bias, **arrays}


def give_state(head: str, classes: tuple[str, ...], document: Mapping[str, Any], arrays: Mapping[str, Any]) -> Pipeline:
    """The pipeline of what `take_state` gave, fitted on ``classes``; it computes the same, to the bit.

    Raises
    ------
    SpecError, ModelError, KeyError, TypeError, AttributeError
        If the parts are not those of one pipeline.
    """
    normalizer = _give_normalizer(document["normalizer"], document["normalizer_parameters"], arrays)
    parameters = document["head_parameters"]
    if isinstance(weights := parameters["class_weight"], list):
        parameters = {**parameters, "class_weight": dict(weights)}
    return from_linear_parts(head, arrays["weight"], arrays["bias"], np.array(classes), normalizer, **parameters)


def _head_parameters(head: BaseEstimator) -> dict[str, Any]:
    inner = head.estimator if isinstance(head, OneVsRestClassifier) else head
    parameters = {name: getattr(inner, name) for name in ("C", "class_weight", "random_state")}
    if isinstance(inner.class_weight, Mapping):  # As pairs: the keys of JSON's objects are strings, these need not be.
        parameters["class_weight"] = list(inner.class_weight.items())
    return parameters


def _take_normalizer(normalizer: BaseEstimator | str) -> tuple[str, dict[str, Any], Arrays]:
    """A fitted normalizer as its kind, what of it goes into JSON, and its arrays."""
    if isinstance(normalizer, BlockNormalizer):
        return "power", {**normalizer.get_params(), "widths_": normalizer.widths_}, {}
    if isinstance(normalizer, StandardScaler):
        arrays = {f"normalizer.{name}": getattr(normalizer, f"{name}_") for name in _SCALER_ARRAYS}
        return "standard", {"n_samples_seen": int(normalizer.n_samples_seen_)}, arrays
    if normalizer == "passthrough":
        return "none", {}, {}
    raise ModelError(
        f"normalizer of the model must be BlockNormalizer, StandardScaler or 'passthrough', got {normalizer!r}"
    )


def _give_normalizer(kind: str, parameters: Mapping[str, Any], arrays: Mapping[str, Any]) -> BaseEstimator | str:
    """The fitted normalizer of what `_take_normalizer` gave."""
    if kind == "none":
        return "passthrough"
    if kind == "standard":
        scaler = StandardScaler()
        for name in _SCALER_ARRAYS:
            setattr(scaler, f"{name}_", arrays[f"normalizer.{name}"].copy())
        scaler.n_samples_seen_ = np.int64(parameters["n_samples_seen"])
        scaler.n_features_in_ = len(scaler.mean_)
        return scaler
    if kind != "power":
        raise ModelError(f"normalizer must be power, standard or none, got {kind!r}")
    widths = parameters["widths"]
    normalizer = BlockNormalizer(tuple(widths) if isinstance(widths, list) else widths, parameters["power"])
    normalizer.widths_ = tuple(parameters["widths_"])
    normalizer.n_features_in_ = sum(normalizer.widths_)
    return normalizer
