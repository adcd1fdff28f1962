"""From a file's bytes to all its views, as the backbone takes them."""

import time
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from featx.images.decoding import decoding
from featx.images.memory_budget import MAX_PIXELS, Budget, room
from featx.images.views import make_views
from featx.images.views_geometry import canvas_pixels
from featx.spec import ExtractSpec


@dataclass(frozen=True, eq=False)
class Prepared:
    """The views of one image, the plain one first, each uint8 (size, size, 3).

    ``turned`` says that an EXIF orientation was applied; ``seconds`` are those of decoding and of making the views, by
    the processor's time in the thread that did it.
    """

    views: tuple[NDArray[np.uint8], ...]
    turned: bool
    seconds: tuple[float, ...]


def prepare_views(
    data: bytes, digest: str, spec: ExtractSpec, max_pixels: int = MAX_PIXELS, room: Budget = room
) -> Prepared:
    """Decode an image file of a digest, and make the views of a spec; ``ImageError`` if it cannot be decoded."""
    start = time.thread_time()
    side = spec.size if spec.decode == "scaled" else None
    with decoding(data, max_pixels, side, canvas=partial(canvas_pixels, spec), room=room) as picture:
        decoded = time.thread_time()
        views = make_views(picture.image, spec, digest)
    return Prepared(tuple(views), picture.turned, (decoded - start, time.thread_time() - decoded))
