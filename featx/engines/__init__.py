"""Engines run a backbone with pooling on torch, OpenVINO or ncnn."""

from featx.runtime import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
