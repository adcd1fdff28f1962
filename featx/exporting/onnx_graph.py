"""An ONNX graph in the making."""

from typing import Any

import numpy as np
import onnx
from numpy.typing import ArrayLike, DTypeLike
from onnx import helper, numpy_helper

OPSET = 17
IR_VERSION = 8
"""Both as old as the operators allow, for onnxruntime 1.12 (2022) and later."""


class Graph:
    """Nodes and constants in order. Calling it adds a node: ``sum = graph("Add", a, b)``; a value is its name."""

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []
        self._count = 0

    def __call__(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """Add a node with one output and give the output's name."""
        (output,) = self.split(operator, *inputs, outputs=1, **attributes)
        return output

    def split(self, operator: str, *inputs: str, outputs: int, **attributes: Any) -> list[str]:
        """Add a node with several outputs and give their names."""
        self._count += 1
        names = [f"{operator.lower()}_{self._count}_{number}" for number in range(outputs)]
        self._nodes.append(helper.make_node(operator, inputs, names, **attributes))
        return names

    def constant(self, values: ArrayLike, dtype: DTypeLike = np.float32, name: str = "") -> str:
        """Add a constant and give its name."""
        array = np.ascontiguousarray(values, dtype).reshape(np.shape(values))
        name = name or f"constant_{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(array, name))
        return name

    def finish(self, value: str, source: onnx.ValueInfoProto, target: onnx.ValueInfoProto) -> onnx.ModelProto:
        """The model from ``source`` to ``target``, which is ``value``."""
        self._nodes.append(helper.make_node("Identity", [value], [target.name]))
        graph = helper.make_graph(self._nodes, "featx", [source], [target], self._constants)
        opset = helper.make_opsetid("", OPSET)
        return helper.make_model(graph, opset_imports=[opset], ir_version=IR_VERSION, producer_name="featx")
