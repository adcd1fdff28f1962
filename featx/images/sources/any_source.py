"""List the images of a source of any kind, after finding out the kind."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from featx.errors import ListingError
from featx.files import check_limits
from featx.images.decoding.formats import image_suffixes, suffix_of
from featx.images.sources.columns import SeveralLabels
from featx.images.sources.files import Files, check_no_root, locate_source, open_root
from featx.images.sources.folder import list_folder, unlabeled_table
from featx.images.sources.found_files import CONTAINERS, FoundFiles
from featx.images.sources.huggingface import is_saved_dataset, list_saved_dataset
from featx.images.sources.listing import Listing
from featx.images.sources.local_files import LocalFiles, has_image_bytes
from featx.images.sources.manifest import MANIFESTS, list_manifest
from featx.images.sources.notes import Note, name_list
from featx.images.sources.options import DEFAULT_OPTIONS, ListingOptions
from featx.images.sources.parquet import is_image_metadata, list_parquet
from featx.images.sources.python_objects import list_object
from featx.images.sources.tar import list_shards
from featx.runtime import pluralize
from featx.table import encode_text

KINDS = f"a folder, a {', '.join(MANIFESTS)} or .parquet manifest, {' or '.join(CONTAINERS)} shards, or an image file"
ONE_IMAGE = "one image"
"""The layout of a source that is an image file."""
CONTAINER_LISTERS: dict[str, Callable[[Files, Sequence[str], Files | None, ListingOptions], Listing]] = {
    ".tar": list_shards,
    ".parquet": list_parquet,
}
"""For each suffix in `CONTAINERS`, the function that lists such files. Its arguments are the folder of the files, their
names, the root, which may be None, and the options."""
REMEDIES = {
    **dict.fromkeys((".xls", ".xlsx", ".xlsm", ".ods", ".numbers"), "save the table as CSV"),
    **dict.fromkeys((".gz", ".tgz", ".bz2", ".xz", ".zst"), "unpack the file; tar shards must not be compressed"),
    **dict.fromkeys((".zip", ".rar", ".7z"), "unpack the file"),
    ".json": "write a table with one row per image as CSV, or as JSON Lines (.jsonl)",
    ".txt": "write a table with one row per image as CSV",
}
"""What a user can do with a file of another kind."""


def list_images(
    source: str | Path | Sequence[Any] | Any,
    root: str | Path | None = None,
    *,
    labeled: bool = True,
    options: ListingOptions | None = None,
) -> Listing:
    """List the images of a source, always in the same order.

    Parameters
    ----------
    source
        A path, or a URL that fsspec supports (``s3://…``), of one of these:

        - a folder with one sub-folder per class, which may itself have sub-folders; or a folder of images without
          labels. Sub-folders may also have usual names of splits, such as ``train``, ``Testing`` and ``val_images``.
          Then the splits become the column ``split``, and the class folders are inside them. Images are sorted by the
          bytes of their paths. A file ``metadata.csv``, ``.jsonl`` or ``.parquet`` in a folder may have labels and
          columns of the images below it, as in a manifest. Hidden files, and files of file servers and operating
          systems, are skipped.
        - a manifest, ``.csv``, ``.tsv``, ``.jsonl`` or ``.parquet``, with the column ``path`` and optionally ``label``
          and columns whose names start with ``split``, ``weight`` or ``group``. Other usual names of columns are
          recognized, such as ``file_name`` and ``class``. The label ``a|b`` stands for two labels, and so do two rows
          with the same path. Images are sorted by the bytes of their paths.
        - a ``.tar`` shard, or a folder of such shards (see `featx.images.sources.tar`). Shards are sorted by name; the
          images of a shard keep their order. Paths look like ``shard-0.tar/a/1.jpg``.
        - a ``.parquet`` shard, or a folder of such shards. A shard has a column of image bytes, and may have the other
          columns of a manifest. Shards are sorted by name; their rows keep their order. Paths look like
          ``part.parquet#12``. A file is a manifest, not a shard, if it has text in a column ``path`` and no column
          ``image``.
        - a folder on this machine that Hugging Face ``datasets`` wrote with ``save_to_disk``. Paths look like
          ``train#12``.
        - an image file.

        Or one of these objects:

        - a sequence, array, series or iterator of paths. The paths keep their order and are not checked.
        - a ``pandas`` or ``polars`` data frame with the columns of a manifest.
        - a listing, which is returned as it is.
        - a ``datasets.Dataset`` or ``DatasetDict``.
        - a data set of (Pillow image, label) pairs, such as torchvision's. If the data set knows its files, as
          ``ImageFolder`` does, the files are read and its transforms are not applied.
    root
        The folder or URL that the paths of a manifest or of a sequence are relative to. The default is the folder of
        the manifest, or the current folder for a sequence. For a ``datasets.Dataset`` in memory, ``root`` is the name
        of the data set.
    labeled
        Whether sub-folders are classes or splits. If False, images may lie anywhere below the folder, as with the
        layout ``flat``.
    options : ListingOptions, optional
        How to read the source, if it can be read in several ways.

    Returns
    -------
    Listing
        Its ``summary`` says how many images, classes and splits were found, and its ``notes`` say what was skipped or
        guessed.

    Raises
    ------
    ListingError
        If the source does not exist, is of another kind or contains no images, or if ``root`` or an option is given
        for a source that needs none. Also if a folder can be read in two ways; the message names both of them, and the
        option that decides.
    EngineError
        If the source needs a package that is not installed; the message names it.
    """
    check_limits()
    options = options or DEFAULT_OPTIONS
    if not isinstance(source, str | Path):
        return list_object(source, root, options)
    files, name = locate_source(source)
    images = None if root is None else open_root(root)
    if not name:
        return _list_folder(files, images, options, labeled=labeled)
    if reason := _unreachable(files, name):
        raise ListingError(f"{source} must be {KINDS}, but cannot be read: {reason}")
    suffix = suffix_of(name)
    if suffix in (*MANIFESTS, *CONTAINER_LISTERS):
        try:
            return _list_file(files, name, images, options)
        except SeveralLabels as error:
            if labeled:
                raise
            # Nobody looks at the labels, so any will do.
            return _list_file(files, name, images, replace(options, label_column=error.columns[0]))
    check_no_root(images, source)
    if suffix in image_suffixes() or (isinstance(files, LocalFiles) and has_image_bytes(str(files.root / name))):
        options.check_used(f"the image {source}")
        return Listing(
            files.root,
            unlabeled_table([name]),
            lambda _: files.read(name),
            size=lambda _: files.size(name),
            layout=ONE_IMAGE,
        )
    remedy = f"; {REMEDIES[suffix]}" if suffix in REMEDIES else ""
    raise ListingError(f"{source} must be {KINDS}, but has the suffix {suffix!r}{remedy}")


def _list_file(files: Files, name: str, images: Files | None, options: ListingOptions) -> Listing:
    """List a manifest, or a file with many images."""
    suffix = suffix_of(name)
    if suffix in MANIFESTS:
        return list_manifest(files, name, images or files, options)
    return CONTAINER_LISTERS[suffix](files, [name], images, options)


def _list_folder(files: Files, images: Files | None, options: ListingOptions, *, labeled: bool) -> Listing:
    """List a folder: a saved data set, images, or shards."""
    if isinstance(files, LocalFiles) and is_saved_dataset(files.root):
        check_no_root(images, files.root)
        return list_saved_dataset(files.root, options)
    try:
        found = files.find_images()
    except OSError as error:
        raise ListingError(f"{files.root} cannot be listed: {error}") from error
    if not (found.paths and labeled and options.layout != "flat"):
        found.skip_metadata()
    if found.paths or not found.containers:
        check_no_root(images, files.root)
        return _list_image_folder(files, found, options, labeled=labeled)
    shards = sorted(found.containers, key=encode_text)
    kinds, notes = sorted({suffix_of(shard) for shard in shards}), list[Note]()
    if kinds == [".parquet", ".tar"]:
        tables = [shard for shard in shards if suffix_of(shard) == ".parquet"]
        if all(is_image_metadata(files, table) for table in tables):
            # img2dataset writes 00000.parquet with URLs and captions beside 00000.tar.
            shards, kinds = [shard for shard in shards if shard not in tables], [".tar"]
            text = f"{pluralize(len(tables), '.parquet file')} without images beside the shards: {name_list(tables)}"
            notes.append(Note("skipped", text, len(tables)))
    if len(kinds) > 1:
        raise ListingError(
            f"{files.root} must contain {' or '.join(CONTAINERS)} shards, got {' and '.join(kinds)}; "
            "give a folder of one kind"
        )
    notes += found.notes(containers=True)
    return CONTAINER_LISTERS[kinds[0]](files, shards, images, options).add_notes(*notes)


def _list_image_folder(files: Files, found: FoundFiles, options: ListingOptions, *, labeled: bool) -> Listing:
    shards, notes = set(found.containers), list[Note]()
    tops = sorted({path.partition("/")[0] for path in found.paths}) if shards else []
    if tops and all(f"{top}.parquet" in shards for top in tops):
        # img2dataset writes 00000.parquet with URLs and captions beside the folder 00000.
        shards -= {f"{top}.parquet" for top in tops}
        if labeled and options.layout == "auto" and options.split_folders is None:
            options = replace(options, layout="flat")
            text = f"the folders {name_list(tops)} are parts of img2dataset, not classes (--layout)"
            notes.append(Note("guessed", text))
    if found.paths and shards:
        notes.append(_note_on_shards(shards))
    return list_folder(files, found, options, labeled=labeled).add_notes(*notes)


def _note_on_shards(shards: Collection[str]) -> Note:
    first, others = min(shards, key=encode_text), " and others" * (len(shards) > 1)
    return Note("hint", f"{first}{others} beside the images are skipped; to read the images in shards, give the shards")


def _unreachable(files: Files, name: str) -> str:
    """Explain why a path of this machine cannot be reached; return ``""`` if it can be, or if it is a URL."""
    try:
        if isinstance(files, LocalFiles):
            (files.root / name).stat()
    except (OSError, ValueError) as error:
        return getattr(error, "strerror", None) or str(error)
    return ""
