"""Fine-tune a model: train its head and the last layers of its backbone."""

from featx.runtime import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
