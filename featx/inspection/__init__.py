"""Understand data and models: probe, advise, suspects, audit, explain, report."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
