"""List images, decode them, and make the pixels that a backbone takes.

The package has four layers: `pixels` (colors, resizing, augmentation), `decoding` (from the bytes of a file to pixels),
`sources` (which images there are, and how to read them) and `loading` (all of this, in parallel). A layer imports only
from the layers before it.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
