"""Fit, evaluate and apply a saved model; the scikit-learn transformer and the bridge to torch."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
