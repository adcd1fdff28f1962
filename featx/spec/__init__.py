"""What to extract: `ExtractSpec`, which decides the value of every feature, and augmentation by name."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
