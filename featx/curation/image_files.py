"""Where the images of a store are, and whether they still have the bytes that were extracted."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from featx.errors import ImageError, ListingError
from featx.images import Listing, list_images
from featx.runtime import pluralize
from featx.table import StringArray


@dataclass(frozen=True)
class Found:
    """Where the images of a sample are: rows of a listing that have the bytes that are known, and the others."""

    listing: Listing
    same: tuple[int, ...] = ()
    changed: tuple[str, ...] = ()
    gone: tuple[tuple[str, str], ...] = ()


def find_images(paths: StringArray, digests: list[bytes], root: str | Path, store: str) -> Found:
    """Look for the images as files below ``root``; where none is, among what it lists, as shards do.

    Raises
    ------
    ListingError
        If there is none of them.
    """
    files = list_images(list(paths), root)
    found = _sort_out(files, range(len(paths)), paths, digests)
    if len(found.gone) < len(paths):
        return found
    listing = list_images(root)
    again = _sort_out(listing, listing.paths.find(paths).tolist(), paths, digests)
    if len(again.gone) < len(paths):
        return again
    path, reason = found.gone[0]
    raise ListingError(
        f"--root of verify must be the folder that the paths of {store} are relative to, or the shards that were "
        f"extracted, but none of {pluralize(len(paths), 'image')} is in {root}: {path} {reason}"
    )


def _sort_out(listing: Listing, rows: Iterable[int], paths: StringArray, digests: list[bytes]) -> Found:
    """Which of ``paths``, each at one of the ``rows`` of a listing or at -1, have their digests."""
    same, changed, gone = list[int](), list[str](), list[tuple[str, str]]()
    for row, path, digest in zip(rows, paths, digests, strict=True):
        try:
            if row < 0:
                gone.append((path, "is not listed"))
            elif listing.digest(row).encode() == digest:
                same.append(row)
            else:
                changed.append(path)
        except ImageError as error:
            gone.append((path, str(error)))
        except (OSError, ValueError) as error:
            gone.append((path, f"cannot be read: {getattr(error, 'strerror', None) or error}"))
    return Found(listing, tuple(same), tuple(changed), tuple(gone))
