"""The backbone as ncnn reads it: a line of text for each layer, and the tensors of all layers in the same order.

A block runs in strips of rows where its maps are many times as large as its kernels, as they are in the first: what one
convolution leaves of a strip is still in the processor's cache when the next takes it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from featx.backbones import BLOCKS, BackboneWeights, Block, Convolution, MaxPool, apply_layers
from featx.spec import ExtractSpec

MAGIC = 7767517
"""What a text that describes a network begins with."""
INPUT = "pixels"
STRIP = 1 << 20
"""Bytes of a strip of a block's widest map, about."""
TILES = 12
"""Rows of a strip are a multiple of these, as Winograd's tiles have 4 or 6."""
WORTH = 32
"""How many times as large as a block's kernels its map must be: each strip has them for itself, and has to load them.
The first block of 224 pixels, 83 times as large, takes 22 ms in strips in place of 37; the second, 7 times, gains
nothing."""
FEW_INPUTS = 8
"""Of a convolution of fewer channels ncnn's plain sums take half the time of tiles, and of products of matrices."""
PLAIN = "31=96"
"""Plain sums: neither by products of matrices nor by tiles."""


class Network:
    """The backbone up to the last block of a spec; ``block1`` … ``block5`` are the blobs to extract.

    ``text`` and ``tensors`` are what ncnn loads, and in which order.
    """

    def __init__(self, weights: BackboneWeights, spec: ExtractSpec) -> None:
        self._weights = weights
        self._layers, self._blobs, self._tensors = list[str](), 0, list[bytes]()
        source = self._add("Input", [], [INPUT])
        for block in BLOCKS[: max(spec.blocks)]:
            source = self._add_block(block, source, spec.size // (block.stride // 2))

    @property
    def text(self) -> str:
        """The layers."""
        return "\n".join((str(MAGIC), f"{len(self._layers)} {self._blobs}", *self._layers, ""))

    @property
    def tensors(self) -> bytes:
        """Kernels and biases, each kernel after the mark of float32."""
        return b"".join(self._tensors)

    def _add(self, kind: str, sources: Sequence[str], outputs: Sequence[str], parameters: str = "") -> str:
        names = (outputs[0], str(len(sources)), str(len(outputs)), *sources, *outputs)
        self._layers.append(" ".join((kind, *names, parameters)))
        self._blobs += len(outputs)
        return outputs[0]

    def _add_block(self, block: Block, source: str, side: int) -> str:
        """A block of maps of ``side`` rows; the name of its output."""
        output, edges = f"block{block.number}", self._strips(block, side)
        if len(edges) == 1:
            return self._add_strip(block, source, output, edges[0], side)
        copies = [f"{output}_{start}_all" for start, _ in edges]
        self._add("Split", [source], copies)
        margin, parts = len(block.convolutions), list[str]()
        for (start, stop), copy in zip(edges, copies, strict=True):
            # A row more on either side for each convolution, as far as there are any.
            first, last = max(0, start - margin), min(side, stop + margin)
            # Begins at column, row and channel; columns, rows and, all of them, channels.
            where = f"0=0 1={first} 2=0 3={side} 4={last - first} 5=-233"
            rows = self._add("Crop", [copy], [f"{output}_{start}_rows"], where)
            parts.append(self._add_strip(block, rows, f"{output}_{start}", (start, stop), side))
        return self._add("Concat", parts, [output], "0=1")

    def _strips(self, block: Block, side: int) -> list[tuple[int, int]]:
        """The first row of each strip and that after its last."""
        row = np.dtype("f4").itemsize * block.channels * side
        kernels = sum(self._weights.tensors[f"features.{layer}.weight"].nbytes for layer in block.convolutions)
        rows = max(TILES, STRIP // row // TILES * TILES) if side * row > WORTH * kernels else side
        # A last row by itself would leave nothing of a pooling: it goes with the strip before.
        starts = range(0, max(1, side - 1), rows)
        return list(zip(starts, [*starts[1:], side], strict=True))

    def _add_strip(self, block: Block, source: str, output: str, rows: tuple[int, int], side: int) -> str:
        """The convolutions and the pooling of some rows; beyond the picture, and only there, are zeros."""
        strip = _Strip(self, output, int(rows[0] == 0), int(rows[1] == side))
        return apply_layers(block.layers, source, strip)

    def add_convolution(self, layer: Convolution, source: str, output: str, top: int, bottom: int) -> str:
        """Add a convolution with ReLU, with ``top`` and ``bottom`` rows of zeros around its input."""
        kernel, bias = layer.parameters(self._weights.tensors)
        # Outputs, kernel, padding left, right, above and below, bias, weights, and ReLU in the same pass.
        parameters = f"0={len(bias)} 1=3 4=1 15=1 14={top} 16={bottom} 5=1 6={kernel.size} 9=1"
        if kernel.shape[1] < FEW_INPUTS:
            parameters += f" {PLAIN}"
        self._tensors += [bytes(4), *(np.ascontiguousarray(part, "<f4").tobytes() for part in (kernel, bias))]
        return self._add("Convolution", [source], [output], parameters)

    def add_max_pool(self, source: str, output: str) -> str:
        """Add a maximum over 2 × 2 pixels that drops an odd last row or column."""
        return self._add("Pooling", [source], [output], "0=0 1=2 2=2 5=1")


@dataclass(frozen=True)
class _Strip:
    """The layers of a block for some rows, as ncnn layers; see `featx.backbones.LayerOperators`.

    ``top`` and ``bottom`` are 1 where the strip ends at the edge of the image, which alone is padded with zeros.
    """

    network: Network
    output: str
    top: int
    bottom: int

    def convolution(self, x: str, layer: Convolution) -> str:
        return self.network.add_convolution(layer, x, f"{self.output}_conv{layer.number}", self.top, self.bottom)

    def max_pool(self, x: str, layer: MaxPool) -> str:
        return self.network.add_max_pool(x, self.output)
