"""Draw three reference images. Their features show whether two machines or versions compute the same values.

The images are drawn with integer arithmetic only, so that every machine draws the same bits.
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.int64]
BARS = ((255, 255, 255), (255, 255, 0), (0, 255, 255), (0, 255, 0), (255, 0, 255), (255, 0, 0), (0, 0, 255), (0, 0, 0))


def draw_reference_images() -> tuple[Image.Image, ...]:
    """Draw the three RGB images: smooth (320 × 240 pixels), sharp (256 × 256) and rough (200 × 300)."""
    return tuple(Image.fromarray(pixels.astype(np.uint8)) for pixels in (_circles(), _checkers(), _texture()))


def _grid(width: int, height: int) -> tuple[Pixels, Pixels]:
    """Return the row numbers and the column numbers of all pixels, each as int64 (height, width)."""
    rows, columns = np.indices((height, width), dtype=np.int64)
    return rows, columns


def _circles() -> Pixels:
    """Draw four discs on color gradients."""
    rows, columns = _grid(320, 240)
    pixels = np.stack([columns * 255 // 319, rows * 255 // 239, (rows + columns) * 255 // 558], axis=-1)
    for row, column, radius, color in (
        (70, 80, 40, (230, 60, 40)),
        (150, 200, 60, (40, 160, 70)),
        (60, 260, 25, (250, 220, 60)),
        (190, 60, 30, (30, 60, 200)),
    ):
        pixels[(rows - row) ** 2 + (columns - column) ** 2 <= radius**2] = color
    return pixels


def _checkers() -> Pixels:
    """Draw a checkerboard of 8-pixel squares above color bars."""
    rows, columns = _grid(256, 256)
    squares = (rows // 8 + columns // 8) % 2 * 255
    bars = np.asarray(BARS, dtype=np.int64)[columns // 32]
    return np.where((rows < 128)[:, :, None], squares[:, :, None], bars)


def _texture() -> Pixels:
    """Draw the mean of noise at four scales."""
    rows, columns = _grid(200, 300)
    layers = [
        np.stack([_hash(rows // cell, columns // cell, 3 * scale + channel) for channel in range(3)], axis=-1)
        for scale, cell in enumerate((1, 4, 16, 64))
    ]
    return sum(layers[1:], start=layers[0]) // len(layers)


def _hash(rows: Pixels, columns: Pixels, salt: int) -> Pixels:
    """Hash each position to a number from 0 to 255; all products are far below 2^63."""
    mixed = (rows * 73_856_093 ^ columns * 19_349_663 ^ salt * 83_492_791) & 0x7FFFFFFF
    for factor in (0x45D9F3B, 0x119DE1F3):
        mixed = ((mixed >> 16 ^ mixed) * factor) & 0x7FFFFFFF
    return (mixed >> 15 ^ mixed) & 0xFF
