"""VGG16's convolutional backbone as data: the one place that knows its shape.

Configuration D of Simonyan & Zisserman (2015), "Very deep convolutional networks for large-scale image
recognition". Layer numbers are those of torchvision's ``vgg16().features``: a convolution or a max pooling
each take one, and so does every ReLU.
"""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Block:
    """One block: convolutions of one width, then 2 × 2 max pooling.

    ``stop`` is the layer number after the block's pooling, ``convolutions`` the layer numbers of its
    convolutions, ``channels`` its width and ``stride`` how many input pixels an output pixel spans a side.
    """

    number: int
    stop: int
    channels: int
    stride: int
    convolutions: tuple[int, ...]


BLOCKS = (
    Block(1, 5, 64, 2, (0, 2)),
    Block(2, 10, 128, 4, (5, 7)),
    Block(3, 17, 256, 8, (10, 12, 14)),
    Block(4, 24, 512, 16, (17, 19, 21)),
    Block(5, 31, 512, 32, (24, 26, 28)),
)
BLOCK_NUMBERS = tuple(block.number for block in BLOCKS)
CONVOLUTIONS = tuple(layer for block in BLOCKS for layer in block.convolutions)
"""The layer numbers of all convolutions."""
POOLS = ("avg", "max", "gem", "flat")
"""Global average, global maximum, generalised mean (p = 3; Radenović et al. 2018), all positions (C, H, W)."""
WhichBlocks = Sequence[int] | int | str
"""Some of the blocks as a person may give them: ``(3, 4, 5)``, ``5`` or ``"3-5"``; see `parse_blocks`."""
WhichPools = Sequence[str] | str
"""Some of the pools: ``("avg", "max")``, ``"avg"`` or ``"avg,max"``."""
GEM_POWER = 3.0
GEM_FLOOR = 1e-6
MIN_SIZE = BLOCKS[-1].stride
"""The smallest image side of which the last block still has one position."""


def tensor_shapes() -> dict[str, tuple[int, ...]]:
    """Names and shapes (OIHW for weights) of the backbone's 26 tensors, in the order that the digest takes."""
    shapes: dict[str, tuple[int, ...]] = {}
    inputs = 3
    for block in BLOCKS:
        for layer in block.convolutions:
            shapes[f"features.{layer}.weight"] = (block.channels, inputs, 3, 3)
            shapes[f"features.{layer}.bias"] = (block.channels,)
            inputs = block.channels
    return shapes


def feature_name(block: int, pool: str) -> str:
    """The name of one tapped and pooled output, ``block3_avg``, in stores and column names."""
    return f"block{block}_{pool}"


def pool_of(feature: str) -> str:
    """The pool in the name of a feature: ``avg`` of ``block3_avg``."""
    return feature.rpartition("_")[2]


def feature_width(block: int, pool: str, size: int) -> int:
    """Columns of one tapped and pooled output for images of ``size`` × ``size`` pixels."""
    entry = BLOCKS[block - 1]
    positions = (size // entry.stride) ** 2 if pool == "flat" else 1
    return entry.channels * positions


def backbone_flops(size: int) -> dict[int, int]:
    """Floating-point operations up to and including each block, for one image of ``size`` × ``size`` pixels."""
    flops, total, inputs = {}, 0, 3
    for block in BLOCKS:
        positions = (size // (block.stride // 2)) ** 2
        for _ in block.convolutions:
            total += 2 * positions * 9 * inputs * block.channels
            inputs = block.channels
        flops[block.number] = total
    return flops


def widths_of(columns: int) -> tuple[int, ...]:
    """Split a row of pooled features into its blocks, from the number of columns alone.

    VGG16's widths are 64 × (1, 2, 4, 8, 8), so the number of columns of any set of blocks names the set, as
    binary digits do (blocks 4 and 5 are alike). With several pools, the fewest that fit are assumed.
    A number that no set of blocks gives is one single block.
    """
    total = sum(block.channels for block in BLOCKS)
    for pools in range(1, len(POOLS)):
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
    """Block numbers from ``"3-5"``, ``"1,3,5"``, a number or a sequence, sorted; ``ValueError`` says what is wrong."""
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
