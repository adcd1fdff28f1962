"""Pictures that lie within the page: small copies of images, and what is drawn over them."""

import base64
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

import numpy as np
from joblib import cpu_count
from numpy.typing import NDArray
from PIL import Image

from featx.errors import ImageError
from featx.images import load_thumbnail

QUALITY = 60
FORMAT = "image/webp"


def small_copies(root: Path, paths: dict[int, str]) -> dict[int, str]:
    """Each image as the base64 text of a small WebP, by its number; one that cannot be read has none."""
    with ThreadPoolExecutor(cpu_count()) as pool:
        copies = pool.map(lambda path: _small_copy(root, path), paths.values())
        return {number: copy for number, copy in zip(paths, copies, strict=True) if copy}


def data_uri(pixels: NDArray[np.uint8]) -> str:
    """A picture, uint8 (height, width, 3), as an address that holds all of it."""
    return f"data:{FORMAT};base64,{_encode(Image.fromarray(pixels))}"


def _small_copy(root: Path, path: str) -> str:
    try:
        return _encode(load_thumbnail(root, path))
    except (OSError, ImageError):
        return ""


def _encode(picture: Image.Image) -> str:
    buffer = BytesIO()
    picture.save(buffer, "WEBP", quality=QUALITY)
    return base64.b64encode(buffer.getvalue()).decode()
