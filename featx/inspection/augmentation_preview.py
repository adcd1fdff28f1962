"""Preview an augmentation: one image and its augmented copies, side by side."""

from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from PIL import Image

from featx.drawing import arrange_images, save_image
from featx.errors import ImageError
from featx.images import MAX_PIXELS, Transform, draw_transform, list_images, load_file, resolve_range
from featx.spec import DEFAULT_AUGMENT, ExtractSpec, parse_augment

PREVIEW_SPEC = ExtractSpec(n_views=12, augment=DEFAULT_AUGMENT)
"""What `preview` and ``featx preview`` show by default."""


@dataclass(frozen=True)
class AugmentationSheet:
    """A contact sheet: the image and its augmented copies, row by row.

    Attributes
    ----------
    image : PIL.Image.Image
        The image itself is at the top left; the augmented copies follow in the order of ``views``.
    views : tuple of Transform
        The flips, rotations and other changes of each copy.
    """

    image: Image.Image
    views: tuple[Transform, ...]

    def save(self, path: str | Path) -> None:
        """Write the sheet as an image file; the suffix of the path chooses the format.

        Raises
        ------
        SpecError
            If Pillow cannot write a format of that suffix.
        ImageError
            If the file cannot be written.
        """
        save_image(self.image, path, "--output of preview")

    def __repr__(self) -> str:
        width, height = self.image.size
        return f"AugmentationSheet({len(self.views)} views, {width} × {height} pixels)"

    def _repr_png_(self) -> bytes:
        """Show the sheet in a notebook."""
        buffer = BytesIO()
        self.image.save(buffer, "PNG")
        return buffer.getvalue()


def preview(image: str | Path, spec: ExtractSpec | None = None, *, max_pixels: int | None = None) -> AugmentationSheet:
    """Show the augmented copies of one image that `featx.extract` would use with the same spec.

    Parameters
    ----------
    image : path
        An image file.
    spec : ExtractSpec, optional
        Its ``n_views``, ``augment``, ``fill`` and ``view_seed`` say which copies are drawn. Its ``size`` and ``resize``
        say how large the copies are. The default is `PREVIEW_SPEC`.
    max_pixels : int, optional
        Refuse an image with more pixels; by default Pillow's own limit.

    Returns
    -------
    AugmentationSheet

    Raises
    ------
    ImageError
        If the image cannot be read.
    SpecError
        If the spec names an unknown kind of augmentation.
    """
    path, max_pixels = Path(image), max_pixels or MAX_PIXELS
    spec = resolve_range(spec or PREVIEW_SPEC, list_images([path.name], path.parent), max_pixels)
    loaded = load_file(path, spec, max_pixels)
    if loaded.pixels is None:
        raise ImageError(f"{path}: {loaded.reason}")
    augment = parse_augment(spec.augment)
    views = tuple(draw_transform(augment, spec.view_seed, loaded.digest, index) for index in range(spec.n_views))
    return AugmentationSheet(arrange_images(loaded.views), views)
