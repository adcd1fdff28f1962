"""Read ONNX files: the weights of a graph's convolutions, in the order of the graph."""

from pathlib import Path
from typing import Any

import numpy as np

from featx.backbones.digest import check_shape
from featx.backbones.vgg16 import CONVOLUTIONS, tensor_shapes
from featx.errors import WeightsError


def read_onnx(path: Path) -> dict[str, np.ndarray]:
    """Read the tensors of the backbone from an ONNX file: its first 13 convolutions, which may have any names."""
    import onnx

    model = onnx.load(path, load_external_data=False)
    initializers = {initializer.name: initializer for initializer in model.graph.initializer}
    # ONNX requires nodes in topological order, and VGG16 is a chain, so this is the order of its layers.
    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
    if not convolutions:
        raise WeightsError(f"{path} must have the 13 convolutions of VGG16; read as ONNX, it has no convolution")
    last = list(model.graph.node).index(convolutions[: len(CONVOLUTIONS)][-1])
    if any(node.op_type == "BatchNormalization" for node in model.graph.node[:last]):
        raise WeightsError(f"{path} must have VGG16 without batch normalization; fold it into the convolutions")
    names = iter(tensor_shapes())
    tensors: dict[str, np.ndarray] = {}
    for (weight, bias), node in zip(zip(names, names, strict=True), convolutions, strict=False):
        if len(node.input) != 3:
            raise WeightsError(f"{path} must have VGG16, whose convolutions have a bias, but {node.name!r} does not")
        tensors[weight] = _values(initializers.get(node.input[1]), weight, path)
        tensors[bias] = _values(initializers.get(node.input[2]), bias, path)
    return tensors


def _values(initializer: Any, name: str, path: Path) -> np.ndarray:
    from onnx import TensorProto, numpy_helper

    if initializer is None:
        raise WeightsError(f"{name} of {path} must be an initializer of the graph, but is computed by it")
    if initializer.data_location == TensorProto.EXTERNAL:
        raise WeightsError(
            f"{path} must contain its weights, but {name} refers to another file; "
            "save it with onnx.save(model, path, save_as_external_data=False)"
        )
    check_shape(name, tuple(initializer.dims), str(path))
    return np.asarray(numpy_helper.to_array(initializer))
