"""Understand data and models with the functions probe, advise, suspects, audit, explain and report."""

from featx.runtime import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
