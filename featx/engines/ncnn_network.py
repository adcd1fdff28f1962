"""Write the backbone in the form that ncnn reads: a text with one line per layer, and the tensors in the same order.

A block runs in strips of rows if its feature maps are many times larger than its kernels, as in the first block. The
output of a convolution for one strip is then still in the processor's cache when the next convolution reads it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from featx.backbones import BLOCKS, BackboneWeights, Block, Convolution, MaxPool, apply_layers
from featx.spec import ExtractSpec

MAGIC = 7767517
"""First line of a text that describes a network."""
INPUT = "pixels"
STRIP_BYTES = 1 << 20
"""Approximate size of a strip of a block's feature map."""
STRIP_ROWS = 12
"""The number of rows of a strip is a multiple of ``STRIP_ROWS``, because Winograd's tiles have 4 or 6 rows."""
MIN_MAP_TO_KERNEL_RATIO = 32
"""Strips save time if a block's feature map is at least this many times larger than its kernels (measured, see
docs/benchmarks). For smaller feature maps they cost time, because each strip loads all kernels again."""
MIN_CHANNELS_FOR_TILES = 8
"""A convolution with fewer input channels is computed by plain sums. They take half the time of Winograd's algorithm or
of matrix products."""
PLAIN_SUMS = "31=96"
"""ncnn's parameter that turns off both Winograd's algorithm and matrix products for a convolution."""


class NcnnNetwork:
    """The backbone up to the last block of a spec; its outputs are named ``block1`` … ``block5``.

    Parameters
    ----------
    weights : BackboneWeights
        The backbone's tensors.
    spec : ExtractSpec
        The spec, which names the blocks and the image size.
    """

    def __init__(self, weights: BackboneWeights, spec: ExtractSpec) -> None:
        self._weights = weights
        self._layers, self._blobs, self._tensors = list[str](), 0, list[bytes]()
        source = self._add("Input", [], [INPUT])
        for block in BLOCKS[: max(spec.blocks)]:
            source = self._add_block(block, source, spec.size // (block.stride // 2))

    @property
    def text(self) -> str:
        """The layers, for ``ncnn.Net.load_param_mem``."""
        return "\n".join((str(MAGIC), f"{len(self._layers)} {self._blobs}", *self._layers, ""))

    @property
    def tensors(self) -> bytes:
        """Kernels and biases in the order of the layers, for ``ncnn.Net.load_model``."""
        return b"".join(self._tensors)

    def add_convolution(self, layer: Convolution, source: str, output: str, top: int, bottom: int) -> str:
        """Add a convolution with ReLU. Its input gets ``top`` rows of zeros above and ``bottom`` rows below."""
        kernel, bias = layer.parameters(self._weights.tensors)
        # In this order: outputs, kernel size, padding left, right, above and below, bias, number of weights, ReLU.
        parameters = f"0={len(bias)} 1=3 4=1 15=1 14={top} 16={bottom} 5=1 6={kernel.size} 9=1"
        if kernel.shape[1] < MIN_CHANNELS_FOR_TILES:
            parameters += f" {PLAIN_SUMS}"
        # Four zero bytes before a kernel mark it as float32.
        self._tensors += [bytes(4), *(np.ascontiguousarray(part, "<f4").tobytes() for part in (kernel, bias))]
        return self._add("Convolution", [source], [output], parameters)

    def add_max_pool(self, source: str, output: str) -> str:
        """Add a maximum over 2 × 2 pixels; an odd last row or column is dropped."""
        return self._add("Pooling", [source], [output], "0=0 1=2 2=2 5=1")

    def _add(self, kind: str, sources: Sequence[str], outputs: Sequence[str], parameters: str = "") -> str:
        names = (outputs[0], str(len(sources)), str(len(outputs)), *sources, *outputs)
        self._layers.append(" ".join((kind, *names, parameters)))
        self._blobs += len(outputs)
        return outputs[0]

    def _add_block(self, block: Block, source: str, side: int) -> str:
        """Add a block whose feature maps have ``side`` rows; return the name of its output."""
        output, edges = f"block{block.number}", self._strip_edges(block, side)
        if len(edges) == 1:
            return self._add_strip(block, source, output, edges[0], side)
        copies = [f"{output}_{start}_all" for start, _ in edges]
        self._add("Split", [source], copies)
        # Each convolution needs one more input row above and one below.
        margin, parts = len(block.convolutions), list[str]()
        for (start, stop), copy in zip(edges, copies, strict=True):
            first, last = max(0, start - margin), min(side, stop + margin)
            # First column, row and channel, then the numbers of columns, rows and channels. -233 means all channels.
            crop = f"0=0 1={first} 2=0 3={side} 4={last - first} 5=-233"
            rows = self._add("Crop", [copy], [f"{output}_{start}_rows"], crop)
            parts.append(self._add_strip(block, rows, f"{output}_{start}", (start, stop), side))
        return self._add("Concat", parts, [output], "0=1")

    def _strip_edges(self, block: Block, side: int) -> list[tuple[int, int]]:
        """Return the first row of each strip and the row after its last one."""
        row = np.dtype("f4").itemsize * block.channels * side
        kernels = sum(self._weights.tensors[f"features.{layer}.weight"].nbytes for layer in block.convolutions)
        pays = side * row > MIN_MAP_TO_KERNEL_RATIO * kernels
        rows = max(STRIP_ROWS, STRIP_BYTES // row // STRIP_ROWS * STRIP_ROWS) if pays else side
        # A strip of one row would be empty after pooling, so a single last row belongs to the strip before it.
        starts = range(0, max(1, side - 1), rows)
        return list(zip(starts, [*starts[1:], side], strict=True))

    def _add_strip(self, block: Block, source: str, output: str, rows: tuple[int, int], side: int) -> str:
        strip = _Strip(self, output, int(rows[0] == 0), int(rows[1] == side))
        return apply_layers(block.layers, source, strip)


@dataclass(frozen=True)
class _Strip:
    """The layers of a block for one strip of rows, as ncnn layers; see `featx.backbones.LayerOperators`.

    ``top`` is 1 if the strip begins at the upper edge of the image, and ``bottom`` is 1 if it ends at the lower edge.
    Only at these edges is the strip padded with zeros.
    """

    network: NcnnNetwork
    output: str
    top: int
    bottom: int

    def convolution(self, x: str, layer: Convolution) -> str:
        return self.network.add_convolution(layer, x, f"{self.output}_conv{layer.number}", self.top, self.bottom)

    def max_pool(self, x: str, layer: MaxPool) -> str:
        return self.network.add_max_pool(x, self.output)
