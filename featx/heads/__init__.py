"""Linear heads on cached features: scikit-learn pipelines, and the batched search over them."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
