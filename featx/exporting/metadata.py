"""Describe an exported model: all that a program needs to prepare its input and to use its answers."""

import json
from typing import Any

from featx.backbones import PREPROCESSINGS
from featx.models import Model
from featx.version import __version__

INPUTS = ("images", "tensor")
"""What an exported file takes: decoded images as bytes, or float tensors of the model's size."""
INPUT = "images"
"""Name of the input of an ONNX file."""


def describe_model(model: Model, **more: Any) -> dict[str, Any]:
    """Collect the metadata of an exported file as values that JSON can store. ``more`` is added to them."""
    preprocessing = PREPROCESSINGS[model.spec.preprocessing]
    normalizer = model.estimator.named_steps["normalizer"]
    kind = normalizer if isinstance(normalizer, str) else type(normalizer).__name__
    parameters = {"widths": normalizer.widths_, "power": normalizer.power} if kind == "BlockNormalizer" else {}
    temperature = model.calibration.temperature if model.calibration else 1.0
    return {
        "featx": __version__,
        "head": model.head,
        "classes": model.classes,
        "multilabel": model.multilabel,
        "spec": json.loads(model.spec.to_json()),
        "preprocessing": {"mean": preprocessing.mean, "std": preprocessing.std},
        "normalizer": {"kind": kind, **parameters},
        "predicted": "every class whose decision is above 0"
        if model.multilabel
        else "the class of the largest decision",
        # How decisions, or logits, become probabilities: function(decisions / temperature).
        "probabilities": {"function": probability_function(model), "temperature": temperature},
        **more,
    }


def probability_function(model: Model) -> str | None:
    """Return the function that turns decisions (rows, classes), divided by the temperature, into probabilities.

    It is ``softmax``, ``sigmoid``, ``normalized sigmoid`` (sigmoids divided by their sum), or None for a model without
    probabilities.
    """
    if not model.has_probabilities:
        return None
    if model.multilabel:
        return "sigmoid"
    if model.calibration or model.head == "softmax" or len(model.classes) == 2:
        return "softmax"
    return "normalized sigmoid"


def describe_input(model: Model, kind: str, layout: str) -> dict[str, Any]:
    """Describe the input of a file, as values for JSON.

    Parameters
    ----------
    model : Model
    kind : {"images", "tensor"}
    layout : {"NHWC", "NCHW"}
        The order of the axes: images, height, width and channels. A file with NHWC takes images of any size and resizes
        them.
    """
    size = model.spec.size
    sides = ("height", "width") if layout == "NHWC" else (size, size)
    return {
        "name": INPUT,
        "dtype": "float32" if kind == "tensor" else "uint8",
        "shape": ["n", *sides, 3] if layout == "NHWC" else ["n", 3, *sides],
        "layout": layout,
        "color": "RGB",
        "range": [0, 1] if kind == "tensor" else [0, 255],
        "resized by the file": layout == "NHWC",
    }
