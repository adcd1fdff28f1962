"""List images, decode them, and make the pixels that a backbone takes.

Four layers, each of which imports only from those before it: `pixels` (colors, resizing, augmentation), `decoding`
(from the bytes of a file to pixels), `sources` (which images there are, and how to read them) and `loading` (all of
this, in parallel).
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
