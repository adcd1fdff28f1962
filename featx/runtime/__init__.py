"""Define how work runs (`Compute`), show its progress, handle signals, and import packages of optional extras."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
