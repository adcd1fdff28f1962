"""Draw suspects as a sheet of thumbnails."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from featx.drawing import GAP, arrange_images
from featx.errors import ImageError
from featx.images import THUMBNAIL_SIDE, load_thumbnail
from featx.inspection.suspect_images.findings import Suspects
from featx.store import Store

LINE_HEIGHT = 16
LINE_LENGTH = 24
"""Characters per line below a thumbnail."""
COLUMNS = 4
BLACK, WHITE, GRAY = (0, 0, 0), (255, 255, 255), (160, 160, 160)
Tile = tuple[Sequence[str], str]
"""Paths of one or two images to show side by side, and the text below."""
LoadImage = Callable[[str], Image.Image]
"""A function that takes the path of an image and returns its thumbnail."""


def draw_suspects(suspects: Suspects, root: str | Path, limit: int = 48) -> Image.Image:
    """Draw the first ``limit`` mislabeled images, near-duplicates and outliers, each kind below a title.

    An image that cannot be read is drawn as a gray tile with a cross.

    Parameters
    ----------
    suspects : Suspects
    root : path
        Folder that the paths are relative to.
    limit : int
        Number of tiles per kind.

    Raises
    ------
    ImageError
        If none of the images can be read.
    """
    root = Path(root)
    with Store(suspects.store) as store:
        load = partial(load_thumbnail, root, value_range=store.spec.value_range)
    bands: list[Image.Image] = []
    unreadable: list[str] = []
    drawn = 0
    for title, found in _tiles_by_title(suspects).items():
        tiles = found[:limit]
        drawn += sum(len(paths) for paths, _ in tiles)
        shown = f", the first {limit}" if len(found) > limit else ""
        bands += [_draw_title(f"{title}: {len(found)}{shown}"), *_draw_tiles(tiles, load, unreadable)]
    if drawn and len(unreadable) == drawn:
        raise ImageError(
            f"--root of suspects must be the folder that the paths of {suspects.store} are relative to, but none of "
            f"the images to show is in {root}, for example {unreadable[0]}"
        )
    return _stack(bands)


def _tiles_by_title(suspects: Suspects) -> dict[str, list[Tile]]:
    return {
        "Probably mislabeled": [
            ([found.path], f"{found.label}: {found.suggested} {found.probability:.0%}") for found in suspects.mislabeled
        ],
        "Near-duplicates": [
            ([found.first, found.second], f"{found.cosine:.3f} {' '.join(found.split_columns) or 'in one split'}")
            for found in suspects.near_duplicates
        ],
        "Outliers": [([found.path], f"{found.score:.1f} deviations") for found in suspects.outliers],
    }


def _draw_tiles(tiles: Sequence[Tile], load: LoadImage, unreadable: list[str]) -> Iterator[Image.Image]:
    """Draw the tiles of one kind, if there are any. Add the paths that cannot be read to ``unreadable``."""
    if tiles:
        images_per_tile = len(tiles[0][0])
        drawn = [_draw_tile(paths, text, load, unreadable) for paths, text in tiles]
        yield arrange_images(drawn, 2 * COLUMNS // images_per_tile)


def _draw_tile(paths: Sequence[str], text: str, load: LoadImage, unreadable: list[str]) -> NDArray[np.uint8]:
    """Draw thumbnails side by side, with their paths and a line of text below."""
    lines = len(paths) + 1
    tile = Image.new("RGB", (THUMBNAIL_SIDE * len(paths), THUMBNAIL_SIDE + lines * LINE_HEIGHT), WHITE)
    for number, path in enumerate(paths):
        try:
            image = load(path)
        except (OSError, ImageError):
            unreadable.append(path)
            image = _draw_cross()
        tile.paste(image, (number * THUMBNAIL_SIDE, 0))
        _write(tile, _shorten(path, LINE_LENGTH * len(paths)), THUMBNAIL_SIDE + number * LINE_HEIGHT)
    _write(tile, text, THUMBNAIL_SIDE + len(paths) * LINE_HEIGHT)
    return np.asarray(tile)


def _shorten(path: str, length: int) -> str:
    """Keep the end of a path, because the ends of paths differ most."""
    return path if len(path) <= length else "…" + path[1 - length :]


def _draw_cross() -> Image.Image:
    side = THUMBNAIL_SIDE
    image = Image.new("RGB", (side, side), GRAY)
    ImageDraw.Draw(image).line([(0, 0), (side, side), (side, 0), (0, side)], WHITE)
    return image


def _draw_title(text: str) -> Image.Image:
    band = Image.new("RGB", (2 * COLUMNS * THUMBNAIL_SIDE, LINE_HEIGHT + GAP), WHITE)
    _write(band, text, GAP)
    return band


def _write(image: Image.Image, text: str, top: int) -> None:
    printable = "".join(letter if letter.isprintable() else "?" for letter in text)
    ImageDraw.Draw(image).text((GAP, top), printable, BLACK, ImageFont.load_default(11))


def _stack(bands: Sequence[Image.Image]) -> Image.Image:
    """Put the bands of a sheet below each other."""
    sheet = Image.new("RGB", (max(band.width for band in bands), sum(band.height for band in bands)), WHITE)
    top = 0
    for band in bands:
        sheet.paste(band, (0, top))
        top += band.height
    return sheet
