"""Build an ONNX graph node by node."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import ArrayLike, DTypeLike
from onnx import helper, numpy_helper

OPSET = 17
IR_VERSION = 8
"""These are the oldest versions of ONNX with all the operators that featx needs. So onnxruntime 1.12 (2022) and later
can run the file."""


class OnnxGraph:
    """Collects the nodes and constants of a graph in order.

    A call adds a node and returns the name of its output, as in ``sum = graph("Add", a, b)``. Inputs are names as well.
    """

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []
        self._count = 0

    def __call__(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """Add a node with one output, and return the name of the output."""
        (output,) = self.split(operator, *inputs, outputs=1, **attributes)
        return output

    def split(self, operator: str, *inputs: str, outputs: int, **attributes: Any) -> list[str]:
        """Add a node with several outputs, and return their names."""
        self._count += 1
        names = [f"{operator.lower()}_{self._count}_{number}" for number in range(outputs)]
        self._nodes.append(helper.make_node(operator, inputs, names, **attributes))
        return names

    def constant(self, values: ArrayLike, dtype: DTypeLike = np.float32, name: str = "") -> str:
        """Add a constant, and return its name."""
        array = np.ascontiguousarray(values, dtype).reshape(np.shape(values))
        name = name or f"constant_{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(array, name))
        return name

    def finish(self, source: onnx.ValueInfoProto, targets: Mapping[str, onnx.ValueInfoProto]) -> onnx.ModelProto:
        """Return the finished model, with the input ``source``.

        ``targets`` maps the name of each value to its output. The outputs have the order of ``targets``.
        """
        self._nodes += [helper.make_node("Identity", [value], [target.name]) for value, target in targets.items()]
        graph = helper.make_graph(self._nodes, "featx", [source], list(targets.values()), self._constants)
        opset = helper.make_opsetid("", OPSET)
        return helper.make_model(graph, opset_imports=[opset], ir_version=IR_VERSION, producer_name="featx")
