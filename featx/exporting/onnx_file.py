"""Write a model as one ONNX file that computes class probabilities from images of any size, with only onnxruntime."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper
from PIL import Image
from sklearn.preprocessing import StandardScaler

from featx.backbones import PREPROCESSINGS, BackboneWeights, Convolution, MaxPool, pool_blocks, run_blocks
from featx.exporting.onnx_graph import OnnxGraph
from featx.exporting.onnx_resize import OnnxResizer
from featx.heads import BlockNormalizer, get_hidden_layer, linear_parts
from featx.models import Model
from featx.runtime import import_optional
from featx.spec import ExtractSpec

INPUT = "images"
MIN_NORM = 1e-12
"""The features of a block are divided by ``MIN_NORM`` if their norm is smaller, for example if all of them are 0."""


class OnnxFormat:
    """Writes a model as an ONNX file. The name of its output, ``probabilities`` or ``decisions``, is ``answers``."""

    def __init__(self, model: Model, backbone: BackboneWeights) -> None:
        self._model, self._backbone = model, backbone
        self.answers = "probabilities" if model.has_probabilities else "decisions"

    def write(self, path: Path, metadata: dict[str, Any]) -> None:
        """Write the graph, with ``metadata`` as its ``metadata_props``.

        The input of the graph is ``images``, RGB as uint8 (n, height, width, 3). Its output is float32 (n, classes).
        """
        model, graph = self._model, OnnxGraph()
        pixels = OnnxResizer(graph, model.spec)(INPUT)
        features = add_features(graph, pixels, model.spec, self._backbone.tensors)
        answer = add_answer(graph, add_decisions(graph, features, model), model)
        source = helper.make_tensor_value_info(INPUT, TensorProto.UINT8, ["n", "height", "width", 3])
        target = helper.make_tensor_value_info(self.answers, TensorProto.FLOAT, ["n", len(model.classes)])
        proto = graph.finish(answer, source, target)
        helper.set_model_props(proto, {name: json.dumps(value) for name, value in metadata.items()})
        path.write_bytes(proto.SerializeToString(deterministic=True))

    def run(self, path: Path, images: Sequence[Image.Image]) -> np.ndarray:
        """Run the file on RGB images of any size and return its answers, float32 (images, classes)."""
        onnxruntime = import_optional("onnxruntime", "export", "--format onnx of export, to check the file,")
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        return np.concatenate([session.run(None, {INPUT: np.asarray(image)[None]})[0] for image in images])

    def expected(self, features: np.ndarray) -> np.ndarray:
        """Compute the answers that featx gives for the features of images, (images, classes)."""
        if self._model.has_probabilities:
            return self._model.predict_proba(features)
        decisions = self._model.decision_function(features)
        return np.column_stack((-decisions, decisions)) if decisions.ndim == 1 else decisions


def add_features(graph: OnnxGraph, pixels: str, spec: ExtractSpec, tensors: Mapping[str, np.ndarray]) -> str:
    """Add the preprocessing, the backbone and the poolings to a graph.

    Parameters
    ----------
    graph : OnnxGraph
        The graph that gets the nodes.
    pixels : str
        Name of the resized images, float32 (n, 3, size, size) with values from 0 to 255.
    spec : ExtractSpec
        The features to compute.
    tensors : mapping of str to float32 array
        The backbone's weights.

    Returns
    -------
    str
        Name of the features, float32 (n, columns).
    """
    preprocessing = PREPROCESSINGS[spec.preprocessing]
    mean, std = (graph.constant(np.reshape(part, (1, 3, 1, 1))) for part in (preprocessing.mean, preprocessing.std))
    x = graph("Div", graph("Sub", pixels, mean), std)
    operators = _OnnxOperators(graph, tensors)
    pooled = pool_blocks(run_blocks(spec.blocks, x, operators), spec.features, operators)
    return graph("Concat", *pooled.values(), axis=1)


@dataclass(frozen=True)
class _OnnxOperators:
    """Add layers and poolings as ONNX nodes, as in `featx.backbones.LayerOperators` and ``PoolingOperators``."""

    graph: OnnxGraph
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


def add_decisions(graph: OnnxGraph, features: str, model: Model) -> str:
    """Add the normalizer and the head to a graph.

    Returns the name of the decisions, (n, classes). For two exclusive classes they are (n, 1).
    """
    x = _add_normalizer(graph, features, model)
    if hidden := get_hidden_layer(model.estimator):
        first = (
            graph.constant(hidden.coef_, name="hidden.weight"),
            graph.constant(hidden.intercept_, name="hidden.bias"),
        )
        x = graph("Relu", graph("Gemm", x, *first, transB=1))
    weight, bias = linear_parts(model.estimator, np.float32)
    parameters = (graph.constant(weight, name="classifier.weight"), graph.constant(bias, name="classifier.bias"))
    return graph("Gemm", x, *parameters, transB=1)


def add_answer(graph: OnnxGraph, decisions: str, model: Model) -> str:
    """Add nodes that turn decisions into the answers, (n, classes).

    The answers are probabilities. For a head without probabilities they are decisions.
    """
    one_column = len(model.classes) == 2 and not model.multilabel
    if not model.has_probabilities:
        return graph("Concat", graph("Neg", decisions), decisions, axis=1) if one_column else decisions
    if model.head == "softmax" and not model.calibration and not one_column:
        return graph("Softmax", decisions, axis=1)
    sigmoids = graph("Sigmoid", _add_calibration(graph, decisions, model))
    if one_column:
        return graph("Concat", graph("Sub", graph.constant(1), sigmoids), sigmoids, axis=1)
    if model.multilabel and not model.calibration:
        return sigmoids
    total = graph("ReduceSum", sigmoids, graph.constant([1], np.int64), keepdims=1)
    positive = graph("Greater", total, graph.constant(0))
    return graph("Where", positive, graph("Div", sigmoids, total), graph.constant(1 / len(model.classes)))


def _add_calibration(graph: OnnxGraph, decisions: str, model: Model) -> str:
    if not model.calibration:
        return decisions
    scaled = graph("Mul", decisions, graph.constant(-model.calibration.slope))
    return graph("Sub", scaled, graph.constant(model.calibration.intercept))


def _add_normalizer(graph: OnnxGraph, x: str, model: Model) -> str:
    normalizer = model.estimator.named_steps["normalizer"]
    if isinstance(normalizer, StandardScaler):
        centered = graph("Sub", x, graph.constant(normalizer.mean_, name="normalizer.mean"))
        return graph("Div", centered, graph.constant(normalizer.scale_, name="normalizer.scale"))
    if not isinstance(normalizer, BlockNormalizer):
        return x
    powered = graph("Mul", graph("Sign", x), graph("Pow", graph("Abs", x), graph.constant(normalizer.power)))
    widths = graph.constant(normalizer.widths_, np.int64)
    blocks = graph.split("Split", powered, widths, outputs=len(normalizer.widths_), axis=1)
    return graph("Concat", *(_add_unit_norm(graph, block) for block in blocks), axis=1)


def _add_unit_norm(graph: OnnxGraph, block: str) -> str:
    norm = graph("ReduceL2", block, axes=[1], keepdims=1)
    return graph("Div", block, graph("Max", norm, graph.constant(MIN_NORM)))
