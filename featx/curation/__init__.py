"""Work on stores: load, select, merge, verify, export features, and find the nearest images."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
