"""Fit, evaluate and apply saved models; VGG16 as a scikit-learn transformer; models as torch modules."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
