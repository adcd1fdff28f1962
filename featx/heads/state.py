"""A fitted head as JSON and arrays, from which an equal one is made: what a saved model holds of its head."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from featx.errors import ModelError
from featx.heads.calibration import METHOD, Calibration
from featx.heads.hidden import HiddenLayer, hidden_of, with_hidden
from featx.heads.normalizer import BlockNormalizer
from featx.heads.pipelines import from_linear_parts, is_multilabel, linear_parts

_SCALER_ARRAYS = ("mean", "scale", "var")

Arrays = dict[str, NDArray[Any]]


def take_state(pipeline: Pipeline, calibration: Calibration | None) -> tuple[dict[str, Any], Arrays]:
    """What of a fitted pipeline goes into JSON, and its arrays by name; ``ModelError`` for another normalizer."""
    kind, parameters, arrays = _take_normalizer(pipeline.named_steps["normalizer"])
    document: dict[str, Any] = {
        "head_parameters": _head_parameters(pipeline.named_steps["head"]),
        "normalizer": kind,
        "normalizer_parameters": parameters,
    }
    if is_multilabel(pipeline):
        document["head_parameters"]["multilabel"] = True
    if calibration:
        document["calibration"] = METHOD
        arrays |= {"calibration.slope": calibration.slope, "calibration.intercept": calibration.intercept}
    if hidden := hidden_of(pipeline):
        arrays |= {"hidden.weight": hidden.coef_, "hidden.bias": hidden.intercept_}
    weight, bias = linear_parts(pipeline, None)
    return document, {"weight": weight, "bias": bias, **arrays}


def give_state(
    head: str, classes: tuple[str, ...], document: Mapping[str, Any], arrays: Mapping[str, Any]
) -> tuple[Pipeline, Calibration | None]:
    """Pipeline and calibration of what `take_state` gave, fitted on ``classes``; they compute the same, to the bit.

    Raises
    ------
    SpecError, ModelError, KeyError, TypeError, AttributeError
        If the parts are not those of one pipeline.
    """
    normalizer = _give_normalizer(document["normalizer"], document["normalizer_parameters"], arrays)
    parameters = document["head_parameters"]
    if isinstance(weights := parameters["class_weight"], list):
        parameters = {**parameters, "class_weight": dict(weights)}
    linear = (arrays["weight"], arrays["bias"])
    pipeline = from_linear_parts(head, *linear, np.array(classes), normalizer, **parameters)
    if "hidden.weight" in arrays:
        layer = HiddenLayer.from_parts(arrays["hidden.weight"].copy(), arrays["hidden.bias"].copy())
        pipeline = with_hidden(pipeline, layer)
    return pipeline, _give_calibration(document.get("calibration"), arrays)


def _give_calibration(method: str | None, arrays: Mapping[str, Any]) -> Calibration | None:
    if method is None:
        return None
    if method != METHOD:
        raise ModelError(f"calibration must be {METHOD}, got {method!r}")
    return Calibration(arrays["calibration.slope"].copy(), arrays["calibration.intercept"].copy())


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
