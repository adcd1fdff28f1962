"""Fit, evaluate and apply models. Use VGG16 as a scikit-learn transformer, and models as torch modules."""

from featx.runtime import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
