"""List a folder of image files. Its sub-folders are classes, or splits if their names are ``train``, ``test`` etc."""

from collections.abc import Iterable, Sequence

from featx.errors import ListingError
from featx.images.sources.files import Files
from featx.images.sources.listing import Listing, first_failure
from featx.images.sources.local_files import FoundFiles
from featx.images.sources.metadata import SPLITS, folder_label
from featx.images.sources.options import ListingOptions
from featx.table import CategoricalArray, ImageTable, LabelNames, StringArray, encode_text

NOT_IN_CLASS = "is not in a class folder, but beside them"
NOT_IN_SPLIT = "is not in a split folder, but beside them"


def list_folder(files: Files, found: FoundFiles, options: ListingOptions, *, labeled: bool) -> Listing:
    """List the images that were found below a folder; raise ``ListingError`` if no image was found.

    Sub-folders are splits if all of them have names of splits and one is named ``train``. A split may have class
    folders.
    """
    if not found.paths:
        raise ListingError(_no_images(files, found))
    options.check_used(f"the folder {files.root}", "layout", "split_folders")
    found.paths.sort(key=encode_text)
    if not labeled or options.layout == "flat":
        return _list_files(files, unlabeled_table(found.paths), found, "images without labels")
    folders = {path.partition("/")[0] for path in found.paths if "/" in path}
    if {folder.casefold() for folder in folders} <= SPLITS.keys() and "train" in map(str.casefold, folders):
        return _list_splits(files, found)
    paths, labels = _label_by_folder(files, found.paths, "", found)
    table = ImageTable(StringArray.from_strings(paths), CategoricalArray.from_values(labels))
    return _list_files(files, table, found, "class folders" if any(labels) else "images without labels")


def unlabeled_table(paths: Iterable[str]) -> ImageTable:
    """Make a table of images without labels."""
    strings = StringArray.from_strings(paths)
    return ImageTable(strings, CategoricalArray.full((), len(strings)))


def _list_files(files: Files, table: ImageTable, found: FoundFiles, layout: str) -> Listing:
    failures = tuple(sorted(found.failures, key=lambda failure: encode_text(failure[0])))
    paths = table.paths
    return Listing(
        files.root,
        table,
        lambda row: files.read(paths[row]),
        failures,
        lambda row: files.size(paths[row]),
        layout=layout,
    )


def _list_splits(files: Files, found: FoundFiles) -> Listing:
    """List a folder of split folders.

    The images of a split without class folders, such as the test set of a contest, get no labels.
    """
    paths, labels, splits = list[str](), list[LabelNames](), list[str]()
    found.failures += [(path, NOT_IN_SPLIT) for path in found.paths if "/" not in path]
    for folder in sorted({path.partition("/")[0] for path in found.paths if "/" in path}):
        inside = [path for path in found.paths if path.startswith(folder + "/")]
        kept, names = _label_by_folder(files, inside, folder + "/", found)
        paths, labels, splits = paths + kept, labels + names, splits + [SPLITS[folder.casefold()]] * len(kept)
    table = ImageTable(
        StringArray.from_strings(paths),
        CategoricalArray.from_values(labels),
        {"split": CategoricalArray.from_values(splits)},
    )
    return _list_files(
        files, table, found, "split folders with class folders" if any(labels) else "split folders without labels"
    )


def _label_by_folder(
    files: Files, paths: Sequence[str], prefix: str, found: FoundFiles
) -> tuple[list[str], list[LabelNames]]:
    """Label each image by its class folder below ``prefix``; images that are in no class folder become failures."""
    try:
        names = [folder_label(path[len(prefix) :]) for path in paths]
    except ListingError as error:
        raise ListingError(f"{files.root} {error}") from None
    if not any(names):
        return list(paths), names
    found.failures += [(path, NOT_IN_CLASS) for path, name in zip(paths, names, strict=True) if not name]
    return [path for path, name in zip(paths, names, strict=True) if name], [name for name in names if name]


def _no_images(files: Files, found: FoundFiles) -> str:
    """Explain that a folder contains no images, and what it contains instead."""
    kinds = ", ".join(f"{suffix} ({count})" for suffix, count in found.skipped.most_common(5))
    other = f"; other files there: {kinds}" if kinds else ""
    failure = first_failure(tuple(found.failures))
    return f"{files.root} must contain images that Pillow opens (.jpg, .png, …), got no image{other}{failure}"
