"""Suspects as thumbnails, so that a person can look at them."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from featx.drawing import GAP, arrange_images
from featx.errors import ImageError
from featx.images import THUMBNAIL_SIDE, load_thumbnail
from featx.inspection.suspect_images.findings import Suspects

LINE = 16
LETTERS = 24
"""So many fit below a thumbnail."""
COLUMNS = 4
BLACK, WHITE, GRAY = (0, 0, 0), (255, 255, 255), (160, 160, 160)
Tile = tuple[Sequence[str], str]
"""Paths side by side, one or two, and what to say below."""


def draw_suspects(suspects: Suspects, root: str | Path, limit: int = 48) -> Image.Image:
    """Draw the first ``limit`` of mislabeled images, near-duplicates and outliers, each kind below its title.

    An image that cannot be read is a crossed gray field.

    Raises
    ------
    ImageError
        If none can be read.
    """
    root = Path(root)
    bands: list[Image.Image] = []
    unread: list[str] = []
    drawn = 0
    for title, found in _kinds(suspects).items():
        tiles = found[:limit]
        drawn += sum(len(paths) for paths, _ in tiles)
        shown = f", the first {limit}" if len(found) > limit else ""
        bands += [_line(f"{title}: {len(found)}{shown}"), *_grid(tiles, root, unread)]
    if drawn and len(unread) == drawn:
        raise ImageError(
            f"--root of suspects must be the folder that the paths of {suspects.store} are relative to, but none of "
            f"the images to show is in {root}, such as {unread[0]}"
        )
    return _stack(bands)


def _kinds(suspects: Suspects) -> dict[str, list[Tile]]:
    """What to show below each title."""
    return {
        "Probably mislabeled": [
            ([found.path], f"{found.label}: {found.suggested} {found.probability:.0%}") for found in suspects.mislabeled
        ],
        "Near-duplicates": [
            ([found.first, found.second], f"{found.cosine:.3f} {' '.join(found.across) or 'on one side'}")
            for found in suspects.near_duplicates
        ],
        "Outliers": [([found.path], f"{found.score:.1f} deviations") for found in suspects.outliers],
    }


def _grid(tiles: Sequence[Tile], root: Path, unread: list[str]) -> Iterator[Image.Image]:
    """The tiles of one kind; what cannot be read is added to ``unread``."""
    if tiles:
        wide = len(tiles[0][0])
        yield arrange_images([_tile(paths, text, root, unread) for paths, text in tiles], 2 * COLUMNS // wide)


def _tile(paths: Sequence[str], text: str, root: Path, unread: list[str]) -> NDArray[np.uint8]:
    """Thumbnails side by side above their names and a line of text."""
    tile = Image.new("RGB", (THUMBNAIL_SIDE * len(paths), THUMBNAIL_SIDE + (len(paths) + 1) * LINE), WHITE)
    for place, path in enumerate(paths):
        try:
            picture = load_thumbnail(root, path)
        except (OSError, ImageError):
            unread.append(path)
            picture = _crossed()
        tile.paste(picture, (place * THUMBNAIL_SIDE, 0))
        _write(tile, _end(path, LETTERS * len(paths)), THUMBNAIL_SIDE + place * LINE)
    _write(tile, text, THUMBNAIL_SIDE + len(paths) * LINE)
    return np.asarray(tile)


def _end(path: str, letters: int) -> str:
    """The end of a path, which tells it from others."""
    return path if len(path) <= letters else "…" + path[1 - letters :]


def _crossed() -> Image.Image:
    field = Image.new("RGB", (THUMBNAIL_SIDE, THUMBNAIL_SIDE), GRAY)
    ImageDraw.Draw(field).line(
        [(0, 0), (THUMBNAIL_SIDE, THUMBNAIL_SIDE), (THUMBNAIL_SIDE, 0), (0, THUMBNAIL_SIDE)], WHITE
    )
    return field


def _line(text: str) -> Image.Image:
    line = Image.new("RGB", (2 * COLUMNS * THUMBNAIL_SIDE, LINE + GAP), WHITE)
    _write(line, text, GAP)
    return line


def _write(picture: Image.Image, text: str, top: int) -> None:
    printable = "".join(letter if letter.isprintable() else "?" for letter in text)
    ImageDraw.Draw(picture).text((GAP, top), printable, BLACK, ImageFont.load_default(11))


def _stack(bands: Sequence[Image.Image]) -> Image.Image:
    sheet = Image.new("RGB", (max(band.width for band in bands), sum(band.height for band in bands)), WHITE)
    top = 0
    for band in bands:
        sheet.paste(band, (0, top))
        top += band.height
    return sheet
