"""Pack a fitted head into JSON values and arrays for a model file, and unpack it again."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from featx.errors import ModelError
from featx.heads.pipeline.calibration import CALIBRATION_METHOD, TemperatureCalibration
from featx.heads.pipeline.hidden_layer import HiddenLayer, add_hidden_layer, get_hidden_layer
from featx.heads.pipeline.linear_heads import from_linear_parts, is_multilabel, linear_parts
from featx.heads.pipeline.normalizer import BlockNormalizer

_SCALER_ARRAYS = ("mean", "scale", "var")

Arrays = dict[str, NDArray[Any]]


def pack_head(pipeline: Pipeline, calibration: TemperatureCalibration | None) -> tuple[dict[str, Any], Arrays]:
    """Return a fitted pipeline and its calibration as JSON values and named arrays.

    Raises
    ------
    ModelError
        If the normalizer is of a kind that `make_head` does not make.
    """
    kind, parameters, arrays = _pack_normalizer(pipeline.named_steps["normalizer"])
    document: dict[str, Any] = {
        "head_parameters": _head_parameters(pipeline.named_steps["head"]),
        "normalizer": kind,
        "normalizer_parameters": parameters,
    }
    if is_multilabel(pipeline):
        document["head_parameters"]["multilabel"] = True
    if calibration:
        document["calibration"] = CALIBRATION_METHOD
        arrays["calibration.temperature"] = np.array([calibration.temperature])
    if hidden := get_hidden_layer(pipeline):
        arrays |= {"hidden.weight": hidden.coef_, "hidden.bias": hidden.intercept_}
    weight, bias = linear_parts(pipeline, None)
    return document, {"weight": weight, "bias": bias, **arrays}


def unpack_head(
    head: str, classes: tuple[str, ...], document: Mapping[str, Any], arrays: Mapping[str, Any]
) -> tuple[Pipeline, TemperatureCalibration | None]:
    """Return the pipeline and calibration that `pack_head` packed. They give exactly the same results.

    Parameters
    ----------
    head : str
        A key of ``HEADS``.
    classes : tuple of str
    document, arrays : mapping
        From `pack_head`.

    Raises
    ------
    SpecError, ModelError, KeyError, TypeError, AttributeError
        If the parts do not belong to one pipeline.
    """
    normalizer = _unpack_normalizer(document["normalizer"], document["normalizer_parameters"], arrays)
    parameters = document["head_parameters"]
    if isinstance(weights := parameters["class_weight"], list):
        parameters = {**parameters, "class_weight": dict(weights)}
    linear = (arrays["weight"], arrays["bias"])
    pipeline = from_linear_parts(head, *linear, np.array(classes), normalizer, **parameters)
    if "hidden.weight" in arrays:
        layer = HiddenLayer.from_parts(arrays["hidden.weight"].copy(), arrays["hidden.bias"].copy())
        pipeline = add_hidden_layer(pipeline, layer)
    return pipeline, _unpack_calibration(document.get("calibration"), arrays)


def _unpack_calibration(method: str | None, arrays: Mapping[str, Any]) -> TemperatureCalibration | None:
    if method is None:
        return None
    if method != CALIBRATION_METHOD:
        raise ModelError(f"calibration must be {CALIBRATION_METHOD}, got {method!r}; fit the model again")
    return TemperatureCalibration(float(arrays["calibration.temperature"][0]))


def _head_parameters(head: BaseEstimator) -> dict[str, Any]:
    inner = head.estimator if isinstance(head, OneVsRestClassifier) else head
    parameters = {name: getattr(inner, name) for name in ("C", "class_weight", "random_state")}
    if isinstance(inner.class_weight, Mapping):  # Use pairs, because the keys of JSON objects must be strings.
        parameters["class_weight"] = list(inner.class_weight.items())
    return parameters


def _pack_normalizer(normalizer: BaseEstimator | str) -> tuple[str, dict[str, Any], Arrays]:
    """Return the name of a fitted normalizer, its JSON values and its arrays."""
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


def _unpack_normalizer(kind: str, parameters: Mapping[str, Any], arrays: Mapping[str, Any]) -> BaseEstimator | str:
    """Return the fitted normalizer that `_pack_normalizer` packed."""
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
