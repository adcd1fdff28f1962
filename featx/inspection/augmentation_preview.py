"""Views: a contact sheet of what an augmentation makes of one image, so that a person can see it."""

from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from featx.drawing import arrange, save_picture
from featx.errors import ImageError
from featx.images import MAX_PIXELS, View, draw_view, load_file
from featx.spec import ExtractSpec, parse_augment


@dataclass(frozen=True)
class Sheet:
    """The views of an image side by side, row by row in their order, and what each of them does."""

    picture: Image.Image
    views: tuple[View, ...]

    def save(self, path: str | Path) -> None:
        """Write the picture; see `featx.drawing.contact_sheet.save_picture`."""
        save_picture(self.picture, path, "--output of views")


def draw_sheet(path: str | Path, spec: ExtractSpec, max_pixels: int = MAX_PIXELS) -> Sheet:
    """Draw the views that `featx.extract.extract` would make of an image file, view 0 first, which is the plain one.

    Parameters
    ----------
    path : path
        The image's file.
    spec : ExtractSpec
        How pictures are prepared, and which views are made.
    max_pixels : int
        The most pixels that the image may have.

    Raises
    ------
    ImageError
        If the image cannot be read.
    """
    path = Path(path)
    loaded = load_file(path, spec, max_pixels)
    if loaded.pixels is None:
        raise ImageError(f"{path}: {loaded.reason}")
    augment = parse_augment(spec.augment)
    views = tuple(draw_view(augment, spec.view_seed, loaded.digest, index) for index in range(spec.n_views))
    return Sheet(arrange(loaded.views), views)
