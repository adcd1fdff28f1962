"""Import packages of optional extras where they are needed, and list installed versions."""

import platform
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module, metadata
from typing import Any

import lazy_loader

from featx.errors import EngineError
from featx.version import __version__


def import_optional(module: str, extra: str, feature: str) -> Any:
    """Import a module of an optional extra.

    Parameters
    ----------
    module : str
        Name of the module.
    extra : str
        The extra of featx that installs it.
    feature : str
        What needs the module, such as ``--executor ray``. The message begins with it.

    Raises
    ------
    EngineError
        If the module cannot be imported. The message has the command that installs the extra.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise missing_extras(extra, feature, error) from error


def missing_extras(extra: str, feature: str, error: ImportError) -> EngineError:
    """Make the error to raise when ``feature`` needs an extra that is not installed."""
    return EngineError(f"{feature} needs a package: pip install 'featx[{extra}]' ({error})")


def attach_stub(package: str, file: str) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """Attach a package's lazy exports, as ``lazy_loader.attach_stub`` does. Some exports may need torch.

    If torch is not installed, an export that needs it raises ``EngineError`` with the command that installs torch.
    """
    get, list_names, names = lazy_loader.attach_stub(package, file)

    def get_or_explain(name: str) -> Any:
        try:
            return get(name)
        except (ModuleNotFoundError, EngineError) as error:
            # An EngineError comes from a lower package. It names the export of that package, not the one that was asked
            # for.
            cause = error if isinstance(error, ModuleNotFoundError) else error.__cause__
            if not isinstance(cause, ModuleNotFoundError) or (cause.name or "").partition(".")[0] != "torch":
                raise
            raise missing_extras("torch", name, cause) from cause

    return get_or_explain, list_names, names


def installed(*names: str) -> dict[str, str]:
    """Look up the versions of featx, Python and the packages in ``names`` that are installed. None is imported."""
    versions = {"featx": __version__}
    for name in names:
        with suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    return {**versions, "python": platform.python_version()}
