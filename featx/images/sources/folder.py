"""A folder of image files: classes by sub-folder, and splits where the top folders are named so."""

from collections.abc import Sequence

from featx.errors import ListingError
from featx.images.sources.files import Files
from featx.images.sources.listing import Listing, first_failure
from featx.images.sources.local_files import FoundFiles
from featx.images.sources.metadata import SPLITS, folder_label
from featx.table import CategoricalArray, ImageTable, LabelNames, StringArray, encode_text

LOOSE = "lies beside the class folders, in none of them"
NO_SPLIT = "lies beside the split folders, in none of them"


def list_folder(files: Files, found: FoundFiles, *, labeled: bool) -> Listing:
    """The images that were found below a folder; ``ListingError`` if there are none."""
    if not found.paths:
        raise ListingError(_nothing(files, found))
    found.paths.sort(key=encode_text)
    if not labeled:
        return file_listing(
            files, ImageTable(StringArray.from_strings(found.paths), CategoricalArray.full((), len(found.paths))), found
        )
    tops = {path.partition("/")[0] for path in found.paths if "/" in path}
    if {top.casefold() for top in tops} <= SPLITS.keys() and "train" in map(str.casefold, tops):
        return _list_split(files, found)
    paths, labels = _classes_of(files, found.paths, "", found)
    return file_listing(files, ImageTable(StringArray.from_strings(paths), CategoricalArray.from_values(labels)), found)


def file_listing(files: Files, rows: ImageTable, found: FoundFiles) -> Listing:
    """The listing of rows whose paths are those of files."""
    failures = tuple(sorted(found.failures, key=lambda failure: encode_text(failure[0])))
    paths = rows.paths
    return Listing(files.root, rows, lambda row: files.read(paths[row]), failures, lambda row: files.size(paths[row]))


def _list_split(files: Files, found: FoundFiles) -> Listing:
    """A folder of split folders; a split without class folders, such as a contest's test set, has no labels."""
    paths, labels, splits = list[str](), list[LabelNames](), list[str]()
    found.failures += [(path, NO_SPLIT) for path in found.paths if "/" not in path]
    for folder in sorted({path.partition("/")[0] for path in found.paths if "/" in path}):
        inside = [path for path in found.paths if path.startswith(folder + "/")]
        kept, names = _classes_of(files, inside, folder + "/", found)
        paths, labels, splits = paths + kept, labels + names, splits + [SPLITS[folder.casefold()]] * len(kept)
    return file_listing(
        files,
        ImageTable(
            StringArray.from_strings(paths),
            CategoricalArray.from_values(labels),
            {"split": CategoricalArray.from_values(splits)},
        ),
        found,
    )


def _classes_of(
    files: Files, paths: Sequence[str], prefix: str, found: FoundFiles
) -> tuple[list[str], list[LabelNames]]:
    """Paths and class names below ``prefix``; loose images beside class folders become failures."""
    try:
        names = [folder_label(path[len(prefix) :]) for path in paths]
    except ListingError as error:
        raise ListingError(f"{files.root} {error}") from None
    if not any(names):
        return list(paths), names
    found.failures += [(path, LOOSE) for path, name in zip(paths, names, strict=True) if not name]
    return [path for path, name in zip(paths, names, strict=True) if name], [name for name in names if name]


def _nothing(files: Files, found: FoundFiles) -> str:
    """Why a folder gives no image: what was there instead."""
    seen = ", ".join(f"{suffix} ({count})" for suffix, count in found.skipped.most_common(5))
    other = f"; files of other kinds there: {seen}" if seen else ""
    failure = first_failure(tuple(found.failures))
    return f"{files.root} must hold images that Pillow opens (.jpg, .png, …), but has none{other}{failure}"
