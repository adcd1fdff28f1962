"""The networks as data: layers, preprocessing, weights, and where the weights come from."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
