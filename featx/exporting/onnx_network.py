"""A model as ONNX nodes: from pixels to pooled features to probabilities."""

from collections.abc import Mapping

import numpy as np
from sklearn.preprocessing import StandardScaler

from featx.backbones import BLOCKS, GEM_FLOOR, GEM_POWER, PREPROCESSINGS
from featx.exporting.onnx_graph import Graph
from featx.heads import BlockNormalizer, hidden_of, linear_parts
from featx.models import Model
from featx.spec import ExtractSpec

TINY = 1e-12
"""What the norm of a block that is all zero is taken for."""


def add_features(graph: Graph, pixels: str, spec: ExtractSpec, tensors: Mapping[str, np.ndarray]) -> str:
    """Pixels, float32 (n, 3, size, size) of 0 to 255, to pooled features (n, columns)."""
    preprocessing = PREPROCESSINGS[spec.preprocessing]
    mean, std = (graph.constant(np.reshape(part, (1, 3, 1, 1))) for part in (preprocessing.mean, preprocessing.std))
    x = graph("Div", graph("Sub", pixels, mean), std)
    pooled = []
    for block in BLOCKS[: max(spec.blocks)]:
        for layer in block.convolutions:
            names = (f"features.{layer}.weight", f"features.{layer}.bias")
            parameters = (graph.constant(tensors[name], name=name) for name in names)
            x = graph("Relu", graph("Conv", x, *parameters, pads=[1, 1, 1, 1]))
        x = graph("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
        if block.number in spec.blocks:
            pooled += [_pool(graph, x, how) for how in spec.pools]
    return graph("Concat", *pooled, axis=1)


def add_decisions(graph: Graph, features: str, model: Model) -> str:
    """Features to the head's decisions: (n, classes), or (n, 1) for one of two classes."""
    x = _normalized(graph, features, model)
    if hidden := hidden_of(model.estimator):
        first = (
            graph.constant(hidden.coef_, name="hidden.weight"),
            graph.constant(hidden.intercept_, name="hidden.bias"),
        )
        x = graph("Relu", graph("Gemm", x, *first, transB=1))
    weight, bias = linear_parts(model.estimator, np.float32)
    parameters = (graph.constant(weight, name="classifier.weight"), graph.constant(bias, name="classifier.bias"))
    return graph("Gemm", x, *parameters, transB=1)


def add_answer(graph: Graph, decisions: str, model: Model) -> str:
    """Decisions to probabilities (n, classes); of a head that has none, decisions (n, classes)."""
    one_row = len(model.classes) == 2 and not model.multilabel
    if not has_probabilities(model):
        return graph("Concat", graph("Neg", decisions), decisions, axis=1) if one_row else decisions
    if model.head == "softmax" and not model.calibration and not one_row:
        return graph("Softmax", decisions, axis=1)
    shares = graph("Sigmoid", _calibrated(graph, decisions, model))
    if one_row:
        return graph("Concat", graph("Sub", graph.constant(1), shares), shares, axis=1)
    if model.multilabel and not model.calibration:
        return shares
    total = graph("ReduceSum", shares, graph.constant([1], np.int64), keepdims=1)
    known = graph("Greater", total, graph.constant(0))
    return graph("Where", known, graph("Div", shares, total), graph.constant(1 / len(model.classes)))


def has_probabilities(model: Model) -> bool:
    """Whether the model gives probabilities, by its head or by calibration."""
    return model.calibration is not None or hasattr(model.estimator, "predict_proba")


def _calibrated(graph: Graph, decisions: str, model: Model) -> str:
    if not model.calibration:
        return decisions
    scaled = graph("Mul", decisions, graph.constant(-model.calibration.slope))
    return graph("Sub", scaled, graph.constant(model.calibration.intercept))


def _pool(graph: Graph, x: str, how: str) -> str:
    if how == "avg":
        return graph("ReduceMean", x, axes=[2, 3], keepdims=0)
    if how == "max":
        return graph("ReduceMax", x, axes=[2, 3], keepdims=0)
    if how == "gem":
        powers = graph("Pow", graph("Max", x, graph.constant(GEM_FLOOR)), graph.constant(GEM_POWER))
        return graph("Pow", graph("ReduceMean", powers, axes=[2, 3], keepdims=0), graph.constant(1 / GEM_POWER))
    return graph("Flatten", x, axis=1)


def _normalized(graph: Graph, x: str, model: Model) -> str:
    normalizer = model.estimator.named_steps["normalizer"]
    if isinstance(normalizer, StandardScaler):
        centered = graph("Sub", x, graph.constant(normalizer.mean_, name="normalizer.mean"))
        return graph("Div", centered, graph.constant(normalizer.scale_, name="normalizer.scale"))
    if not isinstance(normalizer, BlockNormalizer):
        return x
    powered = graph("Mul", graph("Sign", x), graph("Pow", graph("Abs", x), graph.constant(normalizer.power)))
    widths = graph.constant(normalizer.widths_, np.int64)
    blocks = graph.split("Split", powered, widths, outputs=len(normalizer.widths_), axis=1)
    return graph("Concat", *(_unit(graph, block) for block in blocks), axis=1)


def _unit(graph: Graph, block: str) -> str:
    norm = graph("ReduceL2", block, axes=[1], keepdims=1)
    return graph("Div", block, graph("Max", norm, graph.constant(TINY)))
