"""Write and read stores of features. An extraction first writes part files, then assembles them to one HDF5 file."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
