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
    """The image files of some images of a store, and whether they still have the bytes that were extracted.

    Attributes
    ----------
    listing : Listing
        The listing that reads the files.
    unchanged : tuple of int
        Rows of the listing whose files still have the bytes that were extracted.
    changed : tuple of str
        Paths of the files that have other bytes now.
    missing : tuple of (path, reason)
        The files that cannot be read.
    """

    listing: Listing
    unchanged: tuple[int, ...] = ()
    changed: tuple[str, ...] = ()
    missing: tuple[tuple[str, str], ...] = ()


def find_images(paths: StringArray, digests: list[bytes], root: str | Path, store: str) -> SampledImages:
    """Find images by their paths below ``root``. If no file is found, look for them in the shards or data set ``root``.

    Parameters
    ----------
    paths : StringArray
        The images' paths in the store.
    digests : list of bytes
        The sha256 digest of each file, in hexadecimal.
    root : path or URL
        The folder, or the shards or data set, in which to look for the images.
    store : str
        The name of the store. The error message contains it.

    Raises
    ------
    ListingError
        If no image is found.
    """
    files = list_images(list(paths), root)
    found = _compare_digests(files, range(len(paths)), paths, digests)
    if len(found.missing) < len(paths):
        return found
    listing = list_images(root, labeled=False)
    listed = _compare_digests(listing, listing.paths.find(paths).tolist(), paths, digests)
    if len(listed.missing) < len(paths):
        return listed
    path, reason = found.missing[0]
    raise ListingError(
        f"--root of verify must be the folder that the paths of {store} are relative to, or the shards that were "
        f"extracted, but {root} lacks all {pluralize(len(paths), 'image')}: {path} {reason}"
    )


def _compare_digests(listing: Listing, rows: Iterable[int], paths: StringArray, digests: list[bytes]) -> SampledImages:
    """Compare the bytes of images with their digests, and sort the images into unchanged, changed and missing ones.

    ``rows`` holds the row of each image in the listing. It is -1 for an image that is not listed.
    """
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
