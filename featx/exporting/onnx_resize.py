"""Resize images with ONNX nodes, so that the pixels are equal to Pillow's.

The size of the images is known only when the graph runs. To resize along one side, the graph multiplies the pixels by a
matrix of weights with one row per output pixel. It computes this matrix from the length of the side. Images are resized
along rows first, and then along columns (see `featx.images.preprocess`). As in Pillow's ``Resample.c``, the weights are
rounded to multiples of 2^-22, and the pixels are rounded to bytes after each of the two passes. Sums are computed in
float64, so they are exact. (ONNX's own ``Resize`` with ``antialias`` differs by up to 12 of 255 levels.)
"""

import math
from dataclasses import dataclass

import numpy as np
from onnx import TensorProto

from featx.backbones import PREPROCESSINGS
from featx.exporting.onnx_graph import OnnxGraph
from featx.spec import ExtractSpec

WEIGHT_STEPS = 2.0**22
"""Pillow's weights are multiples of ``1 / WEIGHT_STEPS`` (see ``PRECISION_BITS`` in ``Resample.c``)."""
CUBIC = -0.5
"""The parameter ``a`` of the bicubic filter."""
LOBES = 3.0
"""Half the width of the Lanczos filter."""


@dataclass(frozen=True)
class Side:
    """Describes how one side of an image fills a side of the backbone's input.

    Each field is the name of a float64 scalar in the graph.

    Parameters
    ----------
    length : str
        Length of the image's side in pixels.
    start, extent : str
        Start and length of the section of the image's side that is used.
    count, offset : str
        Length and start of the section of the input's side that is filled.
    """

    length: str
    start: str
    extent: str
    count: str
    offset: str


class OnnxResizer:
    """Adds nodes to a graph that resize decoded images in the same way as `featx.images.preprocess`."""

    def __init__(self, graph: OnnxGraph, spec: ExtractSpec) -> None:
        self._graph, self._spec = graph, spec

    def __call__(self, images: str) -> str:
        """Add the nodes that resize images.

        Parameters
        ----------
        images : str
            Name of the images, uint8 (n, height, width, 3).

        Returns
        -------
        str
            Name of the resized images, float32 (n, 3, size, size). Their values are whole numbers from 0 to 255.
        """
        g, spec = self._graph, self._spec
        sides = self._sides(images)
        pixels = g("Transpose", images, perm=[0, 3, 1, 2])
        if spec.interpolation == "nearest":
            rows, columns = (self._nearest(side) for side in sides)
            resized = g("Gather", g("Gather", pixels, rows, axis=2), columns, axis=3)
        else:
            resized = self._filter_pixels(g("Cast", pixels, to=TensorProto.DOUBLE), *sides)
        resized = g("Cast", resized, to=TensorProto.FLOAT)
        return self._pad(resized, *sides) if spec.resize == "pad" else resized

    def _number(self, value: float) -> str:
        return self._graph.constant(value, np.float64)

    def _axes(self, *axes: int) -> str:
        return self._graph.constant(axes, np.int64)

    def _sides(self, images: str) -> tuple[Side, Side]:
        """Describe how the height and the width of the images fill the backbone's input."""
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

    def _filter_pixels(self, pixels: str, height: Side, width: Side) -> str:
        """Resize images along rows, and then along columns."""
        g = self._graph
        rows = self._round_to_bytes(g("MatMul", pixels, g("Transpose", self._weights(width))))
        return self._round_to_bytes(g("MatMul", self._weights(height), rows))

    def _positions(self, side: Side) -> str:
        """Compute the position in the resized image of each pixel of the input's side.

        Positions below 0, and positions of ``side.count`` or more, are outside the resized image.
        """
        return self._graph("Sub", self._graph.constant(np.arange(self._spec.size), np.float64), side.offset)

    def _inside(self, side: Side) -> str:
        """Compute, for each pixel of the input's side, whether the resized image covers it, bool (size,)."""
        g, positions = self._graph, self._positions(side)
        return g("And", g("GreaterOrEqual", positions, self._number(0)), g("Less", positions, side.count))

    def _weights(self, side: Side) -> str:
        """Compute the weight that each pixel of the image has in each pixel of the input, float64 (size, length)."""
        g, half = self._graph, self._number(0.5)
        scale = g("Div", side.extent, side.count)
        centers = g("Add", side.start, g("Mul", g("Add", self._positions(side), half), scale))
        shrink = g("Div", self._number(1), g("Max", scale, self._number(1)))
        pixels = g("Range", self._number(0), side.length, self._number(1))
        distances = g("Sub", g("Unsqueeze", pixels, self._axes(0)), g("Unsqueeze", centers, self._axes(1)))
        weights = self._filter(g("Mul", g("Add", distances, half), shrink))
        total = g("ReduceSum", weights, self._axes(1), keepdims=1)
        normalized = g("Mul", weights, g("Div", self._number(1), total))
        # Input pixels outside the resized image may have weights with a sum of 0. Dividing by it would give NaN.
        inside = g("Unsqueeze", self._inside(side), self._axes(1))
        steps = g("Mul", g("Where", inside, normalized, self._number(0)), self._number(WEIGHT_STEPS))
        rounded = g("Mul", g("Sign", steps), g("Floor", g("Add", g("Abs", steps), half)))
        return g("Div", rounded, self._number(WEIGHT_STEPS))

    def _filter(self, x: str) -> str:
        """Compute the weight at a distance ``x`` from the center of the filter."""
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
        """Compute a polynomial of ``x``. The coefficient of the highest power is the first one."""
        value = self._number(first)
        for coefficient in rest:
            value = self._graph("Add", self._graph("Mul", value, x), self._number(coefficient))
        return value

    def _sinc(self, x: str) -> str:
        g = self._graph
        angle = g("Mul", x, self._number(math.pi))
        return g("Where", g("Equal", x, self._number(0)), self._number(1), g("Div", g("Sin", angle), angle))

    def _nearest(self, side: Side) -> str:
        """Return the number of the image pixel nearest to each input pixel, int64 (size,)."""
        g = self._graph
        scale = g("Div", side.extent, side.count)
        # Pillow computes a running sum. Products would be rounded differently and would sometimes select another pixel.
        first = g("Add", side.start, g("Mul", scale, self._number(0.5)))
        steps = g("Expand", scale, g.constant([self._spec.size - 1], np.int64))
        sums = g("CumSum", g("Concat", g("Unsqueeze", first, self._axes(0)), steps, axis=0), g.constant(0, np.int64))
        last = g("Sub", side.count, self._number(1))
        positions = g("Cast", g("Clip", self._positions(side), self._number(0), last), to=TensorProto.INT64)
        return g("Cast", g("Floor", g("Gather", sums, positions)), to=TensorProto.INT64)

    def _round_to_bytes(self, values: str) -> str:
        """Round values to whole numbers from 0 to 255. Halves are rounded up."""
        rounded = self._graph("Floor", self._graph("Add", values, self._number(0.5)))
        return self._graph("Clip", rounded, self._number(0), self._number(255))

    def _pad(self, pixels: str, height: Side, width: Side) -> str:
        """Fill the pixels outside the resized image with the mean color of the preprocessing."""
        g = self._graph
        rows, columns = g("Unsqueeze", self._inside(height), self._axes(1)), self._inside(width)
        color = np.round(PREPROCESSINGS[self._spec.preprocessing].mean).reshape(1, 3, 1, 1)
        return g("Where", g("And", rows, columns), pixels, g.constant(color))
