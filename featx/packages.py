"""Packages of the optional extras, imported where they are needed."""

from importlib import import_module
from typing import Any

from featx.errors import EngineError


def need(module: str, extra: str, whose: str) -> Any:
    """Import a module; ``EngineError`` names the extra that brings it, and ``whose`` need it is."""
    try:
        return import_module(module)
    except ImportError as error:
        raise lacking(extra, whose, error) from error


def lacking(extra: str, whose: str, error: ImportError) -> EngineError:
    """What to raise where a package of an extra is not installed."""
    return EngineError(f"{whose} needs a package: pip install 'featx[{extra}]' ({error})")
