"""Describe what to extract: `ExtractSpec` decides the value of every feature, and a text describes the augmentation."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
