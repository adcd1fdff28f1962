"""Find the image files of a store, and check that they have the bytes that were extracted."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from featx.errors import ImageError, ListingError
from featx.images import Listing, list_images
from featx.runtime import pluralize
from featx.table import StringArray


@dataclass(frozen=True)
class SampledImages:
    """The image files of a sample of a store.

    Attributes
    ----------
    listing : Listing
        How to read the files.
    unchanged : tuple of int
        Rows of the listing whose files have the known bytes.
    changed : tuple of str
        Paths of files with other bytes.
    missing : tuple of (path, reason)
        Files that cannot be read.
    """

    listing: Listing
    unchanged: tuple[int, ...] = ()
    changed: tuple[str, ...] = ()
    missing: tuple[tuple[str, str], ...] = ()


def find_images(paths: StringArray, digests: list[bytes], root: str | Path, store: str) -> SampledImages:
    """Find images as files below a root, or else in what the root lists, such as shards.

    Parameters
    ----------
    paths : StringArray
        The images' paths in the store.
    digests : list of bytes
        sha256 of each file, as hex.
    root : path or URL
    store : str
        The store's name, for the message.

    Raises
    ------
    ListingError
        If no image is found.
    """
    files = list_images(list(paths), root)
    found = _compare_digests(files, range(len(paths)), paths, digests)
    if len(found.missing) < len(paths):
        return found
    listing = list_images(root)
    listed = _compare_digests(listing, listing.paths.find(paths).tolist(), paths, digests)
    if len(listed.missing) < len(paths):
        return listed
    path, reason = found.missing[0]
    raise ListingError(
        f"--root of verify must be the folder that the paths of {store} are relative to, or the shards that were "
        f"extracted, but {root} lacks all {pluralize(len(paths), 'image')}: {path} {reason}"
    )


def _compare_digests(listing: Listing, rows: Iterable[int], paths: StringArray, digests: list[bytes]) -> SampledImages:
    """Sort images by whether their bytes are known; ``rows`` are their rows of the listing, -1 if not listed."""
    unchanged, changed, missing = list[int](), list[str](), list[tuple[str, str]]()
    for row, path, digest in zip(rows, paths, digests, strict=True):
        try:
            if row < 0:
                missing.append((path, "is not listed"))
            elif listing.digest(row).encode() == digest:
                unchanged.append(row)
            else:
                changed.append(path)
        except ImageError as error:
            missing.append((path, str(error)))
        except (OSError, ValueError) as error:
            missing.append((path, f"cannot be read: {getattr(error, 'strerror', None) or error}"))
    return SampledImages(listing, tuple(unchanged), tuple(changed), tuple(missing))
