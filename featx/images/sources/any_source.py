"""Sources: whatever images lie in, as one kind of listing."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from featx.errors import ListingError
from featx.files import check_limits
from featx.images.decoding.formats import image_suffixes, suffix_of
from featx.images.sources.files import Files, check_no_root, locate_source, open_root
from featx.images.sources.folder import list_folder
from featx.images.sources.huggingface import is_saved_dataset, list_saved_dataset
from featx.images.sources.listing import Listing
from featx.images.sources.local_files import LocalFiles
from featx.images.sources.manifest import list_manifest
from featx.images.sources.parquet import list_parquet
from featx.images.sources.python_objects import list_object
from featx.images.sources.tar import list_shards
from featx.runtime import pluralize
from featx.table import CategoricalArray, ImageTable, StringArray, encode_text

KINDS = "a folder, a .csv or .parquet manifest, .tar or .parquet shards, or an image file"


def list_images(
    source: str | Path | Sequence[Any] | Any, root: str | Path | None = None, *, labeled: bool = True
) -> Listing:
    """List the images of a source, in an order that is always the same.

    Parameters
    ----------
    source
        A path, or a URL that fsspec knows (``s3://…``), of one of:

        - a folder with one sub-folder a class (files deeper down belong to it); a folder of such folders named
          ``train`` and ``val`` (or ``valid``, ``validation``) or ``test``, which become the column ``split``; a
          folder of images without labels. Sorted by the bytes of the paths;
        - a manifest, ``.csv`` or ``.parquet``, with the columns ``path``, and if wanted ``label`` and any that begin
          with ``split`` or ``weight`` (a label ``a|b`` is two). Sorted likewise;
        - a ``.tar`` shard, or a folder of them (see `featx.images.sources.tar`), in the order of their names, then
          as images lie there: ``shard-0.tar/a/1.jpg``;
        - a ``.parquet`` file with a column of image bytes, or a folder of them, in the order of names and rows:
          ``part.parquet#12``. Columns as in a manifest; one that has a column of texts ``path``, and none called
          ``image``, is a manifest;
        - a folder that ``save_to_disk`` of Hugging Face ``datasets`` wrote (on this machine): ``train#12``;
        - an image file.

        Or an object: a sequence, array, series or iterator of paths, which keep their order and are not looked up; a
        ``datasets.Dataset`` or ``DatasetDict``; any data set of (Pillow image, label) pairs, such as torchvision's. Of
        one that knows its files (``ImageFolder``) these are read, and its transforms are not applied.
    root
        What the paths of a manifest or of a sequence are relative to, a folder or a URL: the manifest's own folder, or
        the current folder, unless given. Of a ``datasets.Dataset`` in memory it is the name.
    labeled
        Whether the folders in a folder are classes or splits. If not, images lie anywhere below it, also beside them.

    Raises
    ------
    ListingError
        If the source does not exist, is of no such kind, or names no image; if a root is given for one that has none.
    EngineError
        If the source needs a package that is not installed; the message names it.
    """
    check_limits()
    if not isinstance(source, str | Path):
        return list_object(source, root)
    files, name = locate_source(source)
    images = None if root is None else open_root(root)
    if not name:
        return _list_folder(files, images, labeled=labeled)
    if reason := _unreachable(files, name):
        raise ListingError(f"{source} must be {KINDS}, but is none: {reason}")
    suffix = suffix_of(name)
    if suffix == ".csv":
        return list_manifest(files, name, images or files)
    if suffix == ".parquet":
        return list_parquet(files, [name], images)
    check_no_root(images, source)
    if suffix == ".tar":
        return list_shards(files, [name])
    if suffix in image_suffixes():
        rows = ImageTable(StringArray.from_strings([name]), CategoricalArray.full((), 1))
        return Listing(files.root, rows, lambda _: files.read(name), size=lambda _: files.size(name))
    raise ListingError(f"{source} must be {KINDS}, but its name ends like none of them")


def _list_folder(files: Files, images: Files | None, *, labeled: bool) -> Listing:
    if isinstance(files, LocalFiles) and is_saved_dataset(files.root):
        check_no_root(images, files.root)
        return list_saved_dataset(files.root)
    try:
        found = files.walk()
    except OSError as error:
        raise ListingError(f"{files.root} cannot be listed: {error}") from error
    if found.paths and found.containers:
        first, others = min(found.containers, key=encode_text), " and others" * (len(found.containers) > 1)
        warnings.warn(f"{files.root} has {pluralize(len(found.paths), 'image')}, and beside them {first}{others}, passed "
                      "over: give shards by themselves to have their images", stacklevel=3)  # fmt: skip
    if found.paths or not found.containers:
        check_no_root(images, files.root)
        return list_folder(files, found, labeled=labeled)
    shards = sorted(found.containers, key=encode_text)
    kinds = {suffix_of(shard) for shard in shards}
    if len(kinds) > 1:
        raise ListingError(f"{files.root} must hold .tar or .parquet shards, got both; give a folder of one kind")
    if kinds == {".parquet"}:
        return list_parquet(files, shards, images)
    check_no_root(images, files.root)
    return list_shards(files, shards)


def _unreachable(files: Files, name: str) -> str:
    """Why there is nothing at a path of this machine; ``""`` if there is."""
    try:
        if isinstance(files, LocalFiles):
            (files.root / name).stat()
    except (OSError, ValueError) as error:
        return getattr(error, "strerror", None) or str(error)
    return ""
