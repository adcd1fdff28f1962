"""What libtiff says of a file: into the reason of its failure, and never over a progress bar.

libtiff writes to the standard error of the process, hundreds of lines for one bad file, and Pillow does not stop it. It
calls back from the thread that decodes, so that what it says can be told apart by threads.
"""

import ctypes
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from PIL import _imaging

MAX_MESSAGE = 200
_HANDLER = ctypes.CFUNCTYPE(None, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_void_p)
_heard = threading.local()


@contextmanager
def heard() -> Iterator[list[str]]:
    """The first thing that libtiff says in this thread within the block, if anything; the rest is dropped."""
    _listen()
    _heard.lines = lines = list[str]()
    try:
        yield lines
    finally:
        _heard.lines = []


@cache
def _listen() -> object:
    """Take what libtiff says, where Pillow's copy of it can be found; what is returned must outlive it."""
    libtiff = _find()
    if libtiff is None:
        return None
    vsnprintf = ctypes.CDLL(None).vsnprintf

    def take(_module: bytes, template: bytes, values: int) -> None:
        lines = getattr(_heard, "lines", None)
        if lines == []:
            text = ctypes.create_string_buffer(MAX_MESSAGE)
            # A va_list is passed on as the pointer that it is on the platforms of `_find`.
            vsnprintf(text, ctypes.c_size_t(MAX_MESSAGE), template, ctypes.c_void_p(values))
            lines.append(" ".join(text.value.decode("latin-1").split()).rstrip("."))

    handler = _HANDLER(take)
    for kind in ("Error", "Warning"):
        getattr(libtiff, f"TIFFSet{kind}Handler")(handler if kind == "Error" else None)
    return handler


def _find() -> ctypes.CDLL | None:
    """The libtiff that Pillow has loaded; None where it is not to be found, as it is on Linux."""
    maps = Path("/proc/self/maps")
    if not hasattr(_imaging, "libtiff_decoder") or not maps.is_file():
        return None
    names = {line.rpartition(" ")[2] for line in maps.read_text().splitlines()}
    folder = str(Path(_imaging.__file__).parents[1])
    # A program may have others: torchvision and OpenCV bring theirs.
    found = sorted(
        (name for name in names if "libtiff" in name.rpartition("/")[2]), key=lambda name: folder not in name
    )
    return ctypes.CDLL(found[0]) if found else None
