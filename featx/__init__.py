"""From a folder of images to a trained classifier, in minutes: VGG16 features, cached; linear heads on them.

Everything public is here by name and imported when it is first used, so that ``import featx`` stays light.
"""

from importlib import import_module
from typing import Any

from featx.version import __version__

_HOMES = {
    "BlockNormalizer": "featx.heads",
    "ExtractSpec": "featx.spec",
    "FeatxError": "featx.errors",
    "Model": "featx.model",
    "Store": "featx.store",
    "VGG16Features": "featx.features",
    "load_features": "featx.load",
    "load_model": "featx.model",
}

__all__ = ["__version__", *_HOMES]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'featx' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
