"""Packages: those of the optional extras, imported where they are needed, and the versions that are installed."""

import platform
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module, metadata
from typing import Any

import lazy_loader

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


def attach_stub(package: str, file: str) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """Attach a package's lazy exports, as ``lazy_loader.attach_stub`` does, where some of them need torch.

    Where torch is not installed, these raise ``EngineError`` with the command that installs it.
    """
    get, list_names, names = lazy_loader.attach_stub(package, file)

    def get_or_explain(name: str) -> Any:
        try:
            return get(name)
        except (ModuleNotFoundError, EngineError) as error:
            # An EngineError comes from a lower package, and names its export instead of the one that was asked for.
            cause = error if isinstance(error, ModuleNotFoundError) else error.__cause__
            if not isinstance(cause, ModuleNotFoundError) or (cause.name or "").partition(".")[0] != "torch":
                raise
            raise missing_extras("torch", name, cause) from cause

    return get_or_explain, list_names, names


def installed(*names: str) -> dict[str, str]:
    """The versions of featx, of those packages that are installed, and of Python; none is imported."""
    versions = {"featx": __version__}
    for name in names:
        with suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    return {**versions, "python": platform.python_version()}
