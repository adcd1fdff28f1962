"""Turn a folder of images into a trained classifier in minutes: cached features of a pre-trained network, linear heads.

Every public name is imported when it is first used, so ``import featx`` stays light.
"""

import lazy_loader

from featx.version import __version__ as __version__

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
__all__ = ["__version__", *__all__]
