"""Change how Pillow reads the bytes of an opened image: by the raw mode of its tiles."""

from typing import Any


def raw_mode(tile: Any) -> str:
    """Return the raw mode of a tile of ``Image.tile``; ``""`` if its decoder has none."""
    arguments = tile[3]
    first = arguments[0] if isinstance(arguments, tuple) and arguments else arguments
    return first if isinstance(first, str) else ""


def with_raw_mode(tile: Any, mode: str, stretch: float = 1.0) -> Any:
    """Return a tile that is read in another raw mode, with ``stretch`` times as many bytes per line."""
    arguments: Any = mode
    if isinstance(tile[3], tuple):
        _, *rest = tile[3]
        if tile[0] == "raw":
            rest[0] = int(rest[0] * stretch)
        arguments = (mode, *rest)
    fields = (*tile[:3], arguments)
    return tile._make(fields) if hasattr(tile, "_make") else fields  # Pillow before version 11 has plain tuples.
