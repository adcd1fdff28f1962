"""A model as ONNX nodes: from pixels to pooled features to probabilities."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from sklearn.preprocessing import StandardScaler

from featx.backbones import PREPROCESSINGS, Convolution, MaxPool, pool_blocks, run_blocks
from featx.exporting.onnx_graph import Graph
from featx.heads import BlockNormalizer, get_hidden_layer, linear_parts
from featx.models import Model
from featx.spec import ExtractSpec

TINY = 1e-12
"""What the norm of a block that is all zero is taken for."""


def add_features(graph: Graph, pixels: str, spec: ExtractSpec, tensors: Mapping[str, np.ndarray]) -> str:
    """Pixels, float32 (n, 3, size, size) of 0 to 255, to pooled features (n, columns)."""
    preprocessing = PREPROCESSINGS[spec.preprocessing]
    mean, std = (graph.constant(np.reshape(part, (1, 3, 1, 1))) for part in (preprocessing.mean, preprocessing.std))
    x = graph("Div", graph("Sub", pixels, mean), std)
    operators = _Operators(graph, tensors)
    pooled = pool_blocks(run_blocks(spec.blocks, x, operators), spec.features, operators)
    return graph("Concat", *pooled.values(), axis=1)


def add_decisions(graph: Graph, features: str, model: Model) -> str:
    """Features to the head's decisions: (n, classes), or (n, 1) for one of two classes."""
    x = _normalized(graph, features, model)
    if hidden := get_hidden_layer(model.estimator):
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


@dataclass(frozen=True)
class _Operators:
    """Layers and poolings as nodes; see `featx.backbones.LayerOperators` and `featx.backbones.PoolingOperators`."""

    graph: Graph
    tensors: Mapping[str, np.ndarray]

    def convolution(self, x: str, layer: Convolution) -> str:
        parameters = (self.graph.constant(self.tensors[name], name=name) for name in (layer.weight, layer.bias))
        return self.graph("Relu", self.graph("Conv", x, *parameters, pads=[1, 1, 1, 1]))

    def max_pool(self, x: str, layer: MaxPool) -> str:
        return self.graph("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])

    def mean(self, x: str) -> str:
        return self.graph("ReduceMean", x, axes=[2, 3], keepdims=0)

    def max(self, x: str) -> str:
        return self.graph("ReduceMax", x, axes=[2, 3], keepdims=0)

    def power_mean(self, x: str, power: float, floor: float) -> str:
        powers = self.graph("Pow", self.graph("Max", x, self.graph.constant(floor)), self.graph.constant(power))
        return self.graph("Pow", self.mean(powers), self.graph.constant(1 / power))

    def flatten(self, x: str) -> str:
        return self.graph("Flatten", x, axis=1)


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
