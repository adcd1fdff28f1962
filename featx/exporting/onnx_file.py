"""Write a model as one ONNX file that computes class probabilities from images, with only onnxruntime."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from onnx import TensorProto, helper
from PIL import Image
from sklearn.preprocessing import StandardScaler

from featx.backbones import (
    PREPROCESSINGS,
    BackboneWeights,
    Convolution,
    MaxPool,
    get_pooling,
    pool_blocks,
    run_blocks,
)
from featx.exporting.metadata import INPUT, describe_input, describe_model, probability_function
from featx.exporting.onnx_graph import OnnxGraph
from featx.exporting.onnx_resize import OnnxResizer
from featx.heads import BlockNormalizer, class_decisions, class_linear_parts, get_hidden_layer
from featx.images import preprocess
from featx.models import Model
from featx.runtime import import_optional
from featx.spec import ExtractSpec

LABEL = "label"
"""Name of the output with the predicted class."""
MAX_VALUE = 255
"""The largest pixel value of the backbone's input. In a float tensor, it is 1."""
TENSOR_TYPES = {"uint8": TensorProto.UINT8, "float32": TensorProto.FLOAT}
MIN_NORM = 1e-12
"""If the norm of a block is smaller than this, for example 0, the features are divided by this number instead."""


class OnnxFormat:
    """Writes a model as an ONNX file.

    The file has two outputs: ``label``, and ``probabilities`` or ``decisions``. The attribute ``answers`` names the
    second output.

    Parameters
    ----------
    model : Model
    backbone : BackboneWeights
    input : {"images", "tensor"}
        What the file takes, as in `featx.export`.
    """

    def __init__(self, model: Model, backbone: BackboneWeights, input: str = "images") -> None:
        self._model, self._backbone, self._input = model, backbone, input
        self.answers = "probabilities" if model.has_probabilities else "decisions"

    def write(self, path: Path) -> None:
        """Write the graph, with the metadata of the model as its ``metadata_props``."""
        model, graph = self._model, OnnxGraph()
        if self._input == "tensor":
            pixels = graph("Mul", INPUT, graph.constant(MAX_VALUE))
        else:
            pixels = OnnxResizer(graph, model.spec)(INPUT)
        decisions = add_decisions(graph, add_features(graph, pixels, model.spec, self._backbone.tensors), model)
        answer = add_probabilities(graph, decisions, model) if model.has_probabilities else decisions
        shape: list[str | int | None] = ["n", len(model.classes)]
        described = describe_input(model, self._input, "NCHW" if self._input == "tensor" else "NHWC")
        proto = graph.finish(
            helper.make_tensor_value_info(INPUT, TENSOR_TYPES[described["dtype"]], described["shape"]),
            {
                answer: helper.make_tensor_value_info(self.answers, TensorProto.FLOAT, shape),
                add_label(graph, decisions, model): helper.make_tensor_value_info(
                    LABEL, TensorProto.INT64, shape if model.multilabel else shape[:1]
                ),
            },
        )
        outputs = {self.answers: "one per class", LABEL: "1 if the image has the class, else 0, per class"
                   if model.multilabel else "index of the predicted class in classes"}  # fmt: skip
        metadata = describe_model(model, input=described, outputs=outputs)
        helper.set_model_props(proto, {name: json.dumps(value) for name, value in metadata.items()})
        path.write_bytes(proto.SerializeToString(deterministic=True))

    def run(self, path: Path, images: Sequence[Image.Image]) -> np.ndarray:
        """Run the file on RGB images and return its answers, float32 (images, classes)."""
        onnxruntime = import_optional("onnxruntime", "export", "--format onnx of export, to check the file,")
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        if self._input == "tensor":
            return np.asarray(session.run([self.answers], {INPUT: make_tensor(images, self._model.spec)})[0])
        return np.concatenate([session.run([self.answers], {INPUT: np.asarray(image)[None]})[0] for image in images])

    def expected(self, features: np.ndarray) -> np.ndarray:
        """Compute the answers that featx gives for the features of images, (images, classes)."""
        if self._model.has_probabilities:
            return self._model.predict_proba(features)
        return class_decisions(self._model.decision_function(features))


def make_tensor(images: Sequence[Image.Image], spec: ExtractSpec) -> np.ndarray:
    """Prepare RGB images for a file with the input ``tensor``: float32 (images, 3, size, size), 0 to 1."""
    pixels = np.stack([preprocess(image, spec) for image in images])
    return np.ascontiguousarray(pixels.transpose(0, 3, 1, 2), np.float32) / np.float32(MAX_VALUE)


def add_features(graph: OnnxGraph, pixels: str, spec: ExtractSpec, tensors: Mapping[str, np.ndarray]) -> list[str]:
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
    list of str
        Names of the features, float32 (n, width), in the order of ``spec.widths``.
    """
    preprocessing = PREPROCESSINGS[spec.preprocessing]
    mean, std = (graph.constant(np.reshape(part, (1, 3, 1, 1))) for part in (preprocessing.mean, preprocessing.std))
    x = graph("Div", graph("Sub", pixels, mean), std)
    operators = _OnnxOperators(graph, tensors)
    return list(pool_blocks(run_blocks(spec.blocks, x, operators), spec.features, operators).values())


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
        return self.graph("Reshape", x, self.graph.constant([0, -1], np.int64))

    def matrix(self, x: str) -> str:
        return self.graph("Reshape", x, self.graph.constant([0, 0, -1], np.int64))

    def constant(self, values: np.ndarray) -> str:
        return self.graph.constant(values)

    def matmul(self, a: str, b: str, *, transpose: bool = False) -> str:
        return self.graph("MatMul", a, self.graph("Transpose", b, perm=[0, 2, 1]) if transpose else b)

    def add(self, a: str, b: str) -> str:
        return self.graph("Add", a, b)

    def multiply(self, a: str, b: str) -> str:
        return self.graph("Mul", a, b)

    def divide(self, a: str, b: str) -> str:
        return self.graph("Div", a, b)

    def square_root(self, x: str) -> str:
        return self.graph("Sqrt", x)

    def row_means(self, x: str) -> str:
        return self.graph("ReduceMean", x, axes=[-1], keepdims=1)

    def entries(self, x: str, indices: np.ndarray) -> str:
        return self.graph("Gather", self.flatten(x), self.graph.constant(indices, np.int64), axis=1)


def add_decisions(graph: OnnxGraph, features: Sequence[str], model: Model) -> str:
    """Add the normalizer and the head to a graph. Return the name of the decisions, (n, classes).

    ``features`` are the names that `add_features` returns.
    """
    x = _add_normalizer(graph, features, model)
    if hidden := get_hidden_layer(model.estimator):
        first = (
            graph.constant(hidden.coef_, name="hidden.weight"),
            graph.constant(hidden.intercept_, name="hidden.bias"),
        )
        x = graph("Relu", graph("Gemm", x, *first, transB=1))
    weight, bias = class_linear_parts(model.estimator, np.float32)
    parameters = (graph.constant(weight, name="classifier.weight"), graph.constant(bias, name="classifier.bias"))
    return graph("Gemm", x, *parameters, transB=1)


def add_probabilities(graph: OnnxGraph, decisions: str, model: Model) -> str:
    """Add nodes that turn decisions into probabilities, (n, classes). The model must have probabilities."""
    function = probability_function(model)
    if function == "softmax":
        if model.calibration:
            decisions = graph("Mul", decisions, graph.constant(1 / model.calibration.temperature))
        return graph("Softmax", decisions, axis=1)
    if function == "sigmoid":
        return graph("Sigmoid", decisions)
    # Normalized sigmoids are the softmax of their logarithms. Sigmoids themselves are 0 in float32 for all decisions
    # below -104, so the largest of them could not be found.
    minus_one = graph.constant(-1)
    logarithms = graph("Mul", graph("Softplus", graph("Mul", decisions, minus_one)), minus_one)
    return graph("Softmax", logarithms, axis=1)


def add_label(graph: OnnxGraph, decisions: str, model: Model) -> str:
    """Add nodes that compute the predicted classes, int64, as in `featx.Model.predict`.

    The result is the index of the predicted class, (n,). For a multi-label model, it has the shape (n, classes), and is
    1 where an image has the class, else 0.
    """
    if model.multilabel:
        return graph("Cast", graph("Greater", decisions, graph.constant(0)), to=TensorProto.INT64)
    return graph("ArgMax", decisions, axis=1, keepdims=0)


def _add_normalizer(graph: OnnxGraph, features: Sequence[str], model: Model) -> str:
    """Add the normalizer, and return the name of the normalized features, (n, columns)."""
    normalizer, widths = model.estimator.named_steps["normalizer"], tuple(model.spec.widths.values())
    if isinstance(normalizer, BlockNormalizer) and tuple(normalizer.widths_) == widths:
        # No tensor is split into parts of unequal widths here, because NNAPI cannot do that.
        parts = [
            _add_block(graph, normalizer.power, feature, width, signed=get_pooling(pool).projected > 0)
            for feature, width, (_, pool) in zip(features, widths, model.spec.features, strict=True)
        ]
        return graph("Concat", *parts, axis=1)
    x = graph("Concat", *features, axis=1)
    if isinstance(normalizer, StandardScaler):
        centered = graph("Sub", x, graph.constant(normalizer.mean_, name="normalizer.mean"))
        return graph("Div", centered, graph.constant(normalizer.scale_, name="normalizer.scale"))
    if not isinstance(normalizer, BlockNormalizer):
        return x
    sizes = graph.constant(normalizer.widths_, np.int64)
    blocks = graph.split("Split", x, sizes, outputs=len(normalizer.widths_), axis=1)
    signed = any(get_pooling(pool).projected for pool in model.spec.pools)
    parts = [
        _add_block(graph, normalizer.power, block, width, signed=signed)
        for block, width in zip(blocks, normalizer.widths_, strict=True)
    ]
    return graph("Concat", *parts, axis=1)


def _add_block(graph: OnnxGraph, power: float, block: str, width: int, *, signed: bool) -> str:
    """Add nodes that raise features to a power and scale them to unit norm.

    Only covariances may be negative (``signed``), because the output of a block comes from ReLU. ReduceL2 and ReduceSum
    are avoided, because the accelerators of phones cannot run them.
    """
    powered = graph("Pow", graph("Relu", block) if signed else block, graph.constant(power))
    if signed:
        negative = graph("Pow", graph("Relu", graph("Neg", block)), graph.constant(power))
        powered = graph("Sub", powered, negative)
    mean_square = graph("ReduceMean", graph("Mul", powered, powered), axes=[1], keepdims=1)
    norm = graph("Sqrt", graph("Mul", mean_square, graph.constant(width)))
    return graph("Div", powered, graph("Max", norm, graph.constant(MIN_NORM)))
