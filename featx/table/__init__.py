"""Columns of millions of rows: strings, categories and labels, and queries on them."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
