"""Describe the networks as data: their layers, poolings, preprocessing and weights, and the sources of the weights."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
