"""Understand data and models: probe, advise, suspects, audit, explain, report."""

from featx.runtime import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
