"""Load, select, merge and verify stores, export their features, and find the nearest images."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
