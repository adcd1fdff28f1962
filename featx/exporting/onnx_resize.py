"""Pillow's resize as ONNX nodes: pixels equal Pillow's, though the graph learns the picture's size only when it runs.

A side is resized by a product with a matrix of weights, one row an output pixel, made in the graph from the side's
length. As in Pillow's ``Resample.c``, weights are rounded to multiples of 2^-22, and pixels to bytes after each of the
two passes, across and then down as in `featx.images.pixels.preprocessing.resize`. Sums are float64, in which all of this is
exact. (ONNX's own ``Resize`` with ``antialias`` is up to 12 of 255 levels off.)
"""

import math
from dataclasses import dataclass

import numpy as np
from onnx import TensorProto

from featx.backbones import PREPROCESSINGS
from featx.exporting.onnx_graph import Graph
from featx.spec import ExtractSpec

PRECISION = 2.0**22
"""Pillow's weights are multiples of 1 / PRECISION: PRECISION_BITS in ``Resample.c``."""
CUBIC = -0.5
LOBES = 3.0


@dataclass(frozen=True)
class Side:
    """How one side of a picture fills the backbone's input: names of float64 scalars.

    ``length`` pixels, of which those from ``start`` on, ``extent`` of them, become ``count`` pixels at ``offset``.
    """

    length: str
    start: str
    extent: str
    count: str
    offset: str


class Resizer:
    """Adds to a graph what `featx.images.preprocess` does after decoding."""

    def __init__(self, graph: Graph, spec: ExtractSpec) -> None:
        self._graph, self._spec = graph, spec

    def __call__(self, images: str) -> str:
        """uint8 (n, height, width, 3) to float32 (n, 3, size, size), whole numbers of 0 to 255."""
        g, spec = self._graph, self._spec
        sides = self._sides(images)
        pixels = g("Transpose", images, perm=[0, 3, 1, 2])
        if spec.interpolation == "nearest":
            rows, columns = (self._indices(side) for side in sides)
            resized = g("Gather", g("Gather", pixels, rows, axis=2), columns, axis=3)
        else:
            resized = self._filtered(g("Cast", pixels, to=TensorProto.DOUBLE), *sides)
        resized = g("Cast", resized, to=TensorProto.FLOAT)
        return self._filled(resized, *sides) if spec.resize == "pad" else resized

    def _number(self, value: float) -> str:
        return self._graph.constant(value, np.float64)

    def _sides(self, images: str) -> tuple[Side, Side]:
        """Height and width."""
        g, size = self._graph, self._number(self._spec.size)
        shape = g("Cast", g("Shape", images), to=TensorProto.DOUBLE)
        height, width = (g("Gather", shape, g.constant(axis, np.int64)) for axis in (1, 2))
        zero = self._number(0)
        if self._spec.resize == "crop":
            extent = g("Min", height, width)
            starts = [g("Div", g("Sub", side, extent), self._number(2)) for side in (height, width)]
            return Side(height, starts[0], extent, size, zero), Side(width, starts[1], extent, size, zero)
        if self._spec.resize == "squash":
            return Side(height, zero, height, size, zero), Side(width, zero, width, size, zero)
        scale = g("Div", size, g("Max", height, width))
        counts = [g("Max", g("Round", g("Mul", side, scale)), self._number(1)) for side in (height, width)]
        offsets = [g("Floor", g("Div", g("Sub", size, count), self._number(2))) for count in counts]
        return Side(height, zero, height, counts[0], offsets[0]), Side(width, zero, width, counts[1], offsets[1])

    def _filtered(self, pixels: str, height: Side, width: Side) -> str:
        """Across, then down."""
        g = self._graph
        across = self._bytes(g("MatMul", pixels, g("Transpose", self._weights(width))))
        return self._bytes(g("MatMul", self._weights(height), across))

    def _places(self, side: Side) -> str:
        """For each pixel of the input's side, its number among those of the picture: below 0 and from count, none."""
        return self._graph("Sub", self._graph.constant(np.arange(self._spec.size), np.float64), side.offset)

    def _inside(self, side: Side) -> str:
        """Which pixels of the input's side the picture fills: (size,)."""
        g, places = self._graph, self._places(side)
        return g("And", g("GreaterOrEqual", places, self._number(0)), g("Less", places, side.count))

    def _weights(self, side: Side) -> str:
        """What each of the picture's pixels weighs in each of the input's: float64 (size, length)."""
        g, half = self._graph, self._number(0.5)
        scale = g("Div", side.extent, side.count)
        centers = g("Add", side.start, g("Mul", g("Add", self._places(side), half), scale))
        shrink = g("Div", self._number(1), g("Max", scale, self._number(1)))
        pixels = g("Range", self._number(0), side.length, self._number(1))
        distances = g("Sub", g("Unsqueeze", pixels, self._axes(0)), g("Unsqueeze", centers, self._axes(1)))
        weights = self._filter(g("Mul", g("Add", distances, half), shrink))
        total = g("ReduceSum", weights, self._axes(1), keepdims=1)
        shares = g("Mul", weights, g("Div", self._number(1), total))
        # Rows that the picture does not fill may have no weight at all, and so no shares.
        inside = g("Unsqueeze", self._inside(side), self._axes(1))
        steps = g("Mul", g("Where", inside, shares, self._number(0)), self._number(PRECISION))
        rounded = g("Mul", g("Sign", steps), g("Floor", g("Add", g("Abs", steps), half)))
        return g("Div", rounded, self._number(PRECISION))

    def _filter(self, x: str) -> str:
        g, name = self._graph, self._spec.interpolation
        if name == "lanczos":
            within = g("And", g("GreaterOrEqual", x, self._number(-LOBES)), g("Less", x, self._number(LOBES)))
            product = g("Mul", self._sinc(x), self._sinc(g("Div", x, self._number(LOBES))))
            return g("Where", within, product, self._number(0))
        x = g("Abs", x)
        if name == "bilinear":
            return g("Max", g("Sub", self._number(1), x), self._number(0))
        near = self._polynomial(x, CUBIC + 2, -(CUBIC + 3), 0, 1)
        far = self._polynomial(x, CUBIC, -5 * CUBIC, 8 * CUBIC, -4 * CUBIC)
        outer = g("Where", g("Less", x, self._number(2)), far, self._number(0))
        return g("Where", g("Less", x, self._number(1)), near, outer)

    def _polynomial(self, x: str, first: float, *rest: float) -> str:
        value = self._number(first)
        for coefficient in rest:
            value = self._graph("Add", self._graph("Mul", value, x), self._number(coefficient))
        return value

    def _sinc(self, x: str) -> str:
        g = self._graph
        angle = g("Mul", x, self._number(math.pi))
        return g("Where", g("Equal", x, self._number(0)), self._number(1), g("Div", g("Sin", angle), angle))

    def _indices(self, side: Side) -> str:
        """The picture's pixel nearest to each of the input's: int64 (size,)."""
        g = self._graph
        scale = g("Div", side.extent, side.count)
        # Added up one by one, as Pillow does: in another order some sums round to the other side of a whole number.
        first = g("Add", side.start, g("Mul", scale, self._number(0.5)))
        steps = g("Expand", scale, g.constant([self._spec.size - 1], np.int64))
        sums = g("CumSum", g("Concat", g("Unsqueeze", first, self._axes(0)), steps, axis=0), g.constant(0, np.int64))
        last = g("Sub", side.count, self._number(1))
        places = g("Clip", self._places(side), self._number(0), last)
        return g("Cast", g("Floor", g("Gather", sums, g("Cast", places, to=TensorProto.INT64))), to=TensorProto.INT64)

    def _bytes(self, values: str) -> str:
        """Round to whole numbers of 0 to 255, halves up."""
        rounded = self._graph("Floor", self._graph("Add", values, self._number(0.5)))
        return self._graph("Clip", rounded, self._number(0), self._number(255))

    def _filled(self, pixels: str, height: Side, width: Side) -> str:
        """Lay the picture on the mean color."""
        g = self._graph
        rows, columns = g("Unsqueeze", self._inside(height), self._axes(1)), self._inside(width)
        color = np.round(PREPROCESSINGS[self._spec.preprocessing].mean).reshape(1, 3, 1, 1)
        return g("Where", g("And", rows, columns), pixels, g.constant(color))

    def _axes(self, *axes: int) -> str:
        return self._graph.constant(axes, np.int64)
