"""Images: which there are, their pixels as RGB, and the pixels that a trunk sees."""

from featx.images.colors import from_array, to_rgb
from featx.images.decoding import Picture, decode, load_upright
from featx.images.golden import draw_golden
from featx.images.listing import Listing
from featx.images.preprocessing import prepare
from featx.images.room import MAX_PIXELS
from featx.images.sources import list_images

__all__ = [
    "MAX_PIXELS",
    "Listing",
    "Picture",
    "decode",
    "draw_golden",
    "from_array",
    "list_images",
    "load_upright",
    "prepare",
    "to_rgb",
]
