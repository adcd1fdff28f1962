"""Draw a few images of each class and split of a listing, to check how featx reads a source."""

import itertools
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from pathlib import Path

import numpy as np
from joblib import cpu_count
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from featx.drawing import GAP, arrange_images, save_image
from featx.errors import ImageError
from featx.images import THUMBNAIL_SIDE, Listing, decode

PER_GROUP = 3
"""Number of images of each class and split."""
MAX_GROUPS = 100
"""Number of classes and splits on a sheet."""
LINE_HEIGHT = 14
FONT_SIZE = 11
INK, PAPER, FAINT = (32, 32, 32), (255, 255, 255), (225, 225, 225)


@dataclass(frozen=True)
class ListingSheet:
    """A contact sheet with a few images of each class and split.

    Attributes
    ----------
    image : PIL.Image.Image
        Below each image are its class and its split.
    rows : tuple of int
        The rows of the listing that are shown.
    groups, shown_groups : int
        Number of different pairs of class and split, and number of the pairs that are shown.
    failures : tuple of (path, reason)
        Images that could not be read; their places on the sheet are gray.
    """

    image: Image.Image
    rows: tuple[int, ...]
    groups: int
    shown_groups: int
    failures: tuple[tuple[str, str], ...] = ()

    def save(self, path: str | Path) -> None:
        """Write the sheet as an image file; the suffix of the path chooses the format.

        Raises
        ------
        SpecError
            If Pillow cannot write a format of that suffix.
        ImageError
            If the file cannot be written.
        """
        save_image(self.image, path, "--sheet of extract")

    def __repr__(self) -> str:
        return f"ListingSheet({len(self.rows)} images of {self.shown_groups} of {self.groups} classes and splits)"

    def _repr_png_(self) -> bytes:
        """Show the sheet in a notebook."""
        buffer = BytesIO()
        self.image.save(buffer, "PNG")
        return buffer.getvalue()


def draw_listing(listing: Listing) -> ListingSheet:
    """Draw a few images of each class and split of a listing, with the class and the split below each image.

    Parameters
    ----------
    listing : Listing
        As `featx.list_images` returns it.

    Returns
    -------
    ListingSheet
        It has three images of each class and split, taken from the beginning, the middle and the end of the listing. If
        there are more than 100 classes and splits, only some of them are shown, evenly spaced.
    """
    groups = _group(listing)
    shown = [groups[at] for at in _spread(len(groups), MAX_GROUPS)]
    rows = [[group.rows[at] for at in _spread(len(group.rows), PER_GROUP)] for group in shown]
    flat = list(itertools.chain.from_iterable(rows))
    with ThreadPoolExecutor(cpu_count()) as pool:
        thumbnails = dict(zip(flat, pool.map(partial(_thumbnail, listing), flat), strict=True))
    cells, most = [], max(map(len, rows))
    for group, taken in zip(shown, rows, strict=True):
        cells += [_cell(thumbnails[row], group.captions) for row in taken]
        cells += [_cell(None, ()) for _ in range(most - len(taken))]
    # The number of columns is a multiple of the images per group, so that the images of a group are in one row.
    across = max(1, round(np.sqrt(len(shown) / most)))
    failures = ((listing.paths[row], error) for row, error in thumbnails.items() if isinstance(error, str))
    sheet = arrange_images(cells, most * across)
    return ListingSheet(sheet, tuple(flat), len(groups), len(shown), tuple(failures))


@dataclass(frozen=True)
class _Group:
    """The rows of the images of one class and split, and the lines below these images."""

    captions: tuple[str, ...]
    rows: Sequence[int]


def _group(listing: Listing) -> list[_Group]:
    """Group the rows by class and split, sorted by their names."""
    splits = listing.columns.get("split")
    names = [*listing.classes, "no label"]  # The index of a row without a label is -1: the last name.
    codes = np.where(listing.labels < 0, len(names) - 1, listing.labels)
    if splits is not None:
        order = sorted(range(len(splits.categories)), key=splits.categories.__getitem__)
        rank = np.argsort(order)
        codes = codes * len(order) + rank[splits.codes]
    rows = np.argsort(codes, kind="stable")
    starts = np.flatnonzero(np.diff(codes[rows], prepend=-1))
    groups = []
    for start, stop in itertools.pairwise([*starts.tolist(), len(rows)]):
        code = int(codes[rows[start]])
        if splits is None:
            captions: tuple[str, ...] = (names[code],)
        else:
            label, split = divmod(code, len(order))
            captions = (names[label], splits.categories[order[split]] or "no split")
        groups.append(_Group(captions, rows[start:stop].tolist()))
    return groups


def _spread(count: int, most: int) -> list[int]:
    """Choose at most ``most`` of ``count`` numbers, evenly spaced."""
    return sorted({round(at) for at in np.linspace(0, count - 1, min(count, most)).tolist()})


def _thumbnail(listing: Listing, row: int) -> Image.Image | str:
    """Load a thumbnail of an image. If the image cannot be read, return the reason as text."""
    try:
        image = decode(listing.read(row), side=2 * THUMBNAIL_SIDE).image
    except (ImageError, OSError, ValueError) as error:
        return str(error)
    image.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE))
    return image


def _cell(thumbnail: Image.Image | str | None, captions: Sequence[str]) -> NDArray[np.uint8]:
    """Draw an image and the lines below it; ``thumbnail`` is None for an empty cell, and a text for a failed image."""
    side = THUMBNAIL_SIDE
    cell = Image.new("RGB", (side, side + 2 * LINE_HEIGHT), PAPER)
    draw = ImageDraw.Draw(cell)
    if isinstance(thumbnail, Image.Image):
        cell.paste(thumbnail, ((side - thumbnail.width) // 2, side - thumbnail.height))
    elif thumbnail is not None:
        draw.rectangle((0, 0, side - 1, side - 1), fill=FAINT)
        _write(draw, (GAP, side // 2), "cannot be read")
    for line, caption in enumerate(captions):
        _write(draw, (0, side + line * LINE_HEIGHT), caption)
    return np.asarray(cell)


def _write(draw: ImageDraw.ImageDraw, place: tuple[int, int], text: str) -> None:
    """Write a line of text, cut to the width of a cell."""
    font = ImageFont.load_default(FONT_SIZE)
    if not isinstance(font, ImageFont.FreeTypeFont):
        text = text.encode("ascii", "replace").decode()  # Pillow without FreeType has a font with ASCII letters only.
    text = "".join(letter if letter.isprintable() else "?" for letter in text)
    room, shown = THUMBNAIL_SIDE - place[0], text
    while font.getlength(shown) > room:
        text = text[:-1]
        shown = text + "…"
    draw.text(place, shown, fill=INK, font=font)
