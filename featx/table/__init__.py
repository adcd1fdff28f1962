"""Store columns of millions of rows (strings, categories and labels), and select rows by queries."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
