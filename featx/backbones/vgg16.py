"""VGG16's backbone as data: blocks, layers and the widths of their features.

Configuration D of Simonyan & Zisserman (2015), "Very deep convolutional networks for large-scale image recognition".
Layers are numbered as in torchvision's ``vgg16().features``, which counts convolutions, ReLUs and max poolings.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from featx.backbones.layers import Convolution, Layer, LayerOperators, MaxPool, apply_layers
from featx.backbones.poolings import CHANNEL_POOLS, PoolingOperators, channel_projection, get_pooling

T = TypeVar("T")


@dataclass(frozen=True)
class Block:
    """A block of VGG16: convolutions with the same number of channels, then 2 × 2 max pooling.

    ``convolutions`` holds the layer numbers of its convolutions. ``stop`` is the layer number after its max pooling.
    ``inputs`` and ``channels`` are the numbers of its input and output channels. Along each side, one output position
    covers ``stride`` pixels of the image.
    """

    number: int
    stop: int
    inputs: int
    channels: int
    stride: int
    convolutions: tuple[int, ...]

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The layers in order."""
        inputs = (self.inputs, *(self.channels for _ in self.convolutions[1:]))
        convolutions = map(Convolution, self.convolutions, inputs, (self.channels for _ in inputs))
        return (*convolutions, MaxPool(self.stop - 1))


BLOCKS = (
    Block(1, 5, 3, 64, 2, (0, 2)),
    Block(2, 10, 64, 128, 4, (5, 7)),
    Block(3, 17, 128, 256, 8, (10, 12, 14)),
    Block(4, 24, 256, 512, 16, (17, 19, 21)),
    Block(5, 31, 512, 512, 32, (24, 26, 28)),
)
BLOCK_NUMBERS = tuple(block.number for block in BLOCKS)
CONVOLUTIONS = tuple(layer for block in BLOCKS for layer in block.convolutions)
"""Layer numbers of all convolutions."""
WhichBlocks = Sequence[int] | int | str
"""A choice of blocks: ``(3, 4, 5)``, ``5`` or ``"3-5"``; see `parse_blocks`."""
WhichPools = Sequence[str] | str
"""A choice of poolings: ``("avg", "max")``, ``"avg"`` or ``"avg,max"``."""
MIN_SIZE = BLOCKS[-1].stride
"""Smallest side of an image in pixels. At this size, the output of the last block has one position."""


def tensor_shapes() -> dict[str, tuple[int, ...]]:
    """Return the names and shapes (OIHW for weights) of the 26 tensors, in the order of `backbone_digest`."""
    shapes: dict[str, tuple[int, ...]] = {}
    for layer in (layer for block in BLOCKS for layer in block.layers):
        if isinstance(layer, Convolution):
            shapes[layer.weight] = (layer.outputs, layer.inputs, 3, 3)
            shapes[layer.bias] = (layer.outputs,)
    return shapes


def run_blocks(blocks: Collection[int], x: T, operators: LayerOperators[T]) -> dict[int, T]:
    """Compute the outputs of some blocks, by number, from preprocessed images. Later blocks are not computed."""
    outputs = {}
    for block in BLOCKS[: max(blocks)]:
        x = apply_layers(block.layers, x, operators)
        if block.number in blocks:
            outputs[block.number] = x
    return outputs


def pool_blocks(
    outputs: Mapping[int, T], features: Iterable[tuple[int, str]], operators: PoolingOperators[T]
) -> dict[str, T]:
    """Pool the outputs of blocks for the given (block, pooling) pairs, and return the features by name."""
    pooled = {}
    for block, pool in features:
        pooling, channels = get_pooling(pool), BLOCKS[block - 1].channels
        projection = (channel_projection(channels, pooling.projected),) if pooling.projected else ()
        pooled[feature_name(block, pool)] = pooling.formula(operators, outputs[block], *projection)
    return pooled


def feature_name(block: int, pool: str) -> str:
    """Return the name of a feature in stores and column names, such as ``block3_avg``."""
    return f"block{block}_{pool}"


def pool_of(feature: str) -> str:
    """Return the pooling in the name of a feature: ``avg`` for ``block3_avg``."""
    return feature.rpartition("_")[2]


def has_feature(block: int, pool: str) -> bool:
    """Return whether a pooling applies to a block. A pooling that projects needs twice as many channels as it keeps."""
    return 2 * get_pooling(pool).projected <= BLOCKS[block - 1].channels


def feature_width(block: int, pool: str, size: int) -> int:
    """Return the number of columns of a feature for images of ``size`` × ``size`` pixels."""
    entry = BLOCKS[block - 1]
    return get_pooling(pool).width(entry.channels, (size // entry.stride) ** 2)


def backbone_flops(size: int) -> dict[int, int]:
    """Count the floating-point operations up to the end of each block, for one image of ``size`` × ``size`` pixels."""
    flops, total = {}, 0
    for block in BLOCKS:
        positions = (size // (block.stride // 2)) ** 2
        for layer in block.layers:
            if isinstance(layer, Convolution):
                total += 2 * positions * 9 * layer.inputs * layer.outputs
        flops[block.number] = total
    return flops


def block_widths(columns: int) -> tuple[int, ...]:
    """Guess the widths of the features in a row from its number of columns.

    The widths of VGG16's blocks are 64 × (1, 2, 4, 8, 8). So the number of columns divided by 64, written in binary,
    tells which blocks a row has. Blocks 4 and 5 have the same width. If several numbers of poolings fit, the smallest
    number is taken. If no number fits, the whole row counts as one feature.
    """
    total = sum(block.channels for block in BLOCKS)
    for pools in range(1, len(CHANNEL_POOLS) + 1):
        rest, remainder = divmod(columns, pools)
        if remainder or not 0 < rest <= total:
            continue
        chosen: list[int] = []
        for block in reversed(BLOCKS):
            if block.channels <= rest:
                chosen.append(block.channels)
                rest -= block.channels
        if rest == 0:
            return tuple(width for width in reversed(chosen) for _ in range(pools))
    return (columns,)


def parse_blocks(blocks: WhichBlocks) -> tuple[int, ...]:
    """Read block numbers from ``"3-5"``, ``"1,3,5"``, a number or a sequence, and sort them.

    Raises
    ------
    ValueError
        If ``blocks`` is not a choice of blocks. The message has no subject, so that the caller can put the name of the
        option in front.
    """
    numbers: set[int] = set()
    text = str(blocks) if hasattr(blocks, "__index__") else blocks
    for part in text.split(",") if isinstance(text, str) else map(str, text):
        first, dash, last = part.strip().partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise ValueError(f"must be like 3-5 or 1,4, got {blocks!r}")
        ends = int(first), int(last if dash else first)
        if wrong := [number for number in ends if number not in BLOCK_NUMBERS]:
            raise ValueError(f"must be {BLOCK_NUMBERS[0]} to {BLOCK_NUMBERS[-1]}, got {wrong[0]}")
        numbers.update(range(ends[0], ends[1] + 1))
    if not numbers:
        raise ValueError(f"must be like 3-5 or 1,4, got {blocks!r}")
    return tuple(sorted(numbers))
