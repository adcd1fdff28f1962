"""Packages: those of the optional extras, imported where they are needed, and the versions that are installed."""

import platform
from contextlib import suppress
from importlib import import_module, metadata
from typing import Any

from featx.errors import EngineError
from featx.version import __version__


def import_optional(module: str, extra: str, whose: str) -> Any:
    """Import a module; ``EngineError`` names the extra that brings it, and ``whose`` need it is."""
    try:
        return import_module(module)
    except ImportError as error:
        raise missing_extras(extra, whose, error) from error


def missing_extras(extra: str, whose: str, error: ImportError) -> EngineError:
    """What to raise where a package of an extra is not installed."""
    return EngineError(f"{whose} needs a package: pip install 'featx[{extra}]' ({error})")


def installed(*names: str) -> dict[str, str]:
    """The versions of featx, of those packages that are installed, and of Python; none is imported."""
    versions = {"featx": __version__}
    for name in names:
        with suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    return {**versions, "python": platform.python_version()}
