"""The store of features: part files during an extraction, then one HDF5 file, and its reader."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
