"""Read and write files safely: atomic writes, HDF5 files from untrusted sources, and limits on bytes that are read."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
