"""Write a model as a file that runs without featx."""

from featx.runtime import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
