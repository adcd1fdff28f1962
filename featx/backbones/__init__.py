"""The networks as data: layers, poolings, preprocessing, weights, and where weights are downloaded from."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
