"""What a program has in its hands: paths, or a data set of pictures as torchvision's are."""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from PIL import Image

from featx.errors import ImageError, ListingError
from featx.images.decoding.decoder import load_upright
from featx.images.sources.files import check_inside_root, check_no_root, open_root
from featx.images.sources.huggingface import list_dataset
from featx.images.sources.listing import Listing
from featx.images.sources.metadata import RowBuilder
from featx.table import CategoricalArray, ImageTable, StringArray


def list_object(source: Any, root: str | Path | None) -> Listing:
    """The images of a sequence of paths, of (picture, label) pairs, or of a data set; see `list_images`."""
    if _is_hugging_faces(source):
        return list_dataset(source, Path(root or ""))
    if hasattr(source, "to_numpy"):
        source = source.to_numpy()
    if isinstance(source, Iterator) or (isinstance(source, np.ndarray) and source.ndim == 1):
        source = list(source)  # as `Path.glob` and pandas give paths
    if not hasattr(source, "__len__"):
        raise ListingError("a source of images must be a path, an array or iterator of paths, or a data set with a "
                           f"length, got {type(source).__name__}")  # fmt: skip
    if not len(source):
        raise ListingError("a sequence of images must name at least one path, got none")
    if isinstance(source, Sequence) and isinstance(source[0], str | os.PathLike):
        return _list_paths(source, root)
    check_no_root(root, f"a {type(source).__name__}")
    return _list_files(source) or _list_pictures(source)


def _is_hugging_faces(source: Any) -> bool:
    """Whether a source is a data set of Hugging Face's, or one of several splits, by what is used of it: many a user
    has a package of that name."""
    part = next(iter(source.values()), None) if isinstance(source, Mapping) else source
    return all(hasattr(part, name) for name in ("features", "select_columns", "__len__"))


def _list_paths(source: Sequence[str | Path], root: str | Path | None) -> Listing:
    """Paths in their order, not looked up; those with a root must stay below it."""
    try:
        paths = StringArray.from_strings(os.fspath(path).replace(os.sep, "/") for path in source)
    except UnicodeEncodeError as error:
        raise ListingError(f"a sequence of images must hold names of files, got {error.object!r}") from None
    files = open_root(root or "")

    def below(row: int) -> str:
        if root is not None:
            check_inside_root(root, paths[row])
        return paths[row]

    rows = ImageTable(paths, CategoricalArray.full((), len(paths)))
    return Listing(files.root, rows, lambda row: files.read(below(row)), size=lambda row: files.size(below(row)))


def _list_files(source: Any) -> Listing | None:
    """A data set that knows its files, as torchvision's ``ImageFolder``: their own bytes are taken."""
    root, samples = getattr(source, "root", None), getattr(source, "samples", None)
    if root is None or not isinstance(samples, list):
        return None
    listing = _list_paths([Path(path).relative_to(root).as_posix() for path, _ in samples], root)
    return Listing(listing.root, _labeled(source, listing.paths, (label for _, label in samples)), listing.read,
                   size=listing.size)  # fmt: skip


def _list_pictures(source: Any) -> Listing:
    """Any (picture, label) pairs: what a picture shows is taken as a file of its own."""
    name, count, lock = type(source).__name__, len(source), Lock()
    labels = getattr(source, "targets", None)
    if labels is None or len(labels) != count:
        labels = [_pair(source, row)[1] for row in range(count)]
    rows = _labeled(source, (f"{name}#{row}" for row in range(count)), labels)

    def read(row: int) -> bytes:
        # Nothing says that a data set may be asked by two threads at once.
        with lock:
            picture, _ = _pair(source, row)
        data = BytesIO()
        # The plainest of all formats: the same picture gives the same bytes in every version of every library.
        load_upright(picture).image.save(data, "PPM")
        return data.getvalue()

    return Listing(name, rows, read)


def _labeled(source: Any, paths: Iterable[str], labels: Iterable[Any]) -> ImageTable:
    """Rows whose labels are named by the data set's classes, where it knows them."""
    found = RowBuilder()
    for path, label in zip(paths, labels, strict=True):
        found.record(path, {"label": label}, getattr(source, "classes", ()))
    return found.rows


def _pair(source: Any, row: int) -> tuple[Image.Image, Any]:
    try:
        picture, label = source[row]
    except (TypeError, ValueError):
        picture = label = None
    except Exception as error:
        raise ImageError(f"cannot be read: {error}") from error
    if not isinstance(picture, Image.Image):
        raise ImageError(f"an item of {type(source).__name__} must be a pair of a Pillow image and a label; "
                         "make the data set without a transform to tensors")  # fmt: skip
    return picture, label
