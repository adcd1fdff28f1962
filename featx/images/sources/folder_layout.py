"""Decide what the sub-folders of a folder are: classes, splits with classes in them, or neither."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from posixpath import commonpath

from featx.errors import ListingError
from featx.images.sources.metadata import clean_folder_name, folder_label
from featx.images.sources.notes import Note, name_list
from featx.images.sources.options import ListingOptions
from featx.images.sources.split_names import (
    SPLITS,
    conflicting_words,
    is_general_name,
    split_word,
    split_words,
)
from featx.table import LabelNames

NOT_IN_CLASS = "is not in a class folder, but beside them"
NOT_IN_SPLIT = "is not in a split folder, but beside them"
UNLABELED = "images without labels"


@dataclass
class FolderLayout:
    """What the images in each folder are.

    Attributes
    ----------
    name : str
        A phrase such as ``"class folders"``.
    labels : list of tuples of str
        The label of the images in each folder.
    splits : list of str, or None
        The split of the images in each folder; None if there are no splits.
    reasons : list of str
        Why the images in each folder cannot be listed; ``""`` if they can.
    notes : tuple of Note
        What was guessed.
    unlabeled : tuple of Note
        Why images have no labels. This does not hold if a file has the labels.
    """

    name: str
    labels: list[LabelNames]
    splits: list[str] | None = None
    reasons: list[str] = field(default_factory=list)
    notes: tuple[Note, ...] = ()
    unlabeled: tuple[Note, ...] = ()


def unlabeled_layout(folders: Sequence[str]) -> FolderLayout:
    """Make the layout of a folder whose images have no labels, wherever they are."""
    return FolderLayout(UNLABELED, [()] * len(folders), reasons=[""] * len(folders))


def decide_layout(
    folders: Sequence[str], root: object, options: ListingOptions, *, has_labels: bool = False
) -> FolderLayout:
    """Decide what the sub-folders of a folder are.

    Parameters
    ----------
    folders : sequence of str
        All folders that directly contain images, by their paths relative to the root; ``""`` is the root itself.
    root : path or URL
        The folder, for error messages.
    options : ListingOptions
    has_labels : bool
        Whether a file has the labels of the images. Then sub-folders may be splits, but need not be classes.

    Raises
    ------
    ListingError
        If there are two ways to read the folder, and the options do not decide; the message names both. Also if the
        options name a folder that does not exist, or the name of a class is not allowed.
    """
    tree = _Tree.of(folders)
    if options.layout == "flat" or (not tree.inner and options.layout != "splits" and not options.split_folders):
        return unlabeled_layout(folders)
    try:
        if options.layout == "classes":
            return _read_classes(folders)
        if options.layout == "splits" or options.split_folders:
            return _read_given_splits(folders, tree, options.split_folders or {})
        if has_labels and len(split_words(tree.inner.keys())) < len(tree.inner):
            return unlabeled_layout(folders)
        return _guess(folders, tree, root)
    except ListingError as error:
        raise ListingError(f"{root} {error}") from None


@dataclass
class _Tree:
    """The two upper levels of folders. ``inner`` has the names of sub-folders of each top folder; ``direct`` is the set
    of top folders that directly contain images."""

    inner: dict[str, set[str]] = field(default_factory=dict)
    direct: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, folders: Sequence[str]) -> "_Tree":
        tree = cls()
        for folder in filter(None, folders):
            top, slash, rest = folder.partition("/")
            names = tree.inner.setdefault(top, set())
            if slash:
                names.add(rest.partition("/")[0])
            else:
                tree.direct.add(top)
        return tree

    @property
    def is_deep(self) -> bool:
        """Whether at least half of the top folders have images only in their sub-folders."""
        return 2 * len(self.direct) <= len(self.inner)


def _guess(folders: Sequence[str], tree: _Tree, root: object) -> FolderLayout:
    """Decide by the names of the sub-folders."""
    tops = sorted(tree.inner)
    words = split_words(tops)
    if len(words) == len(tops):
        return _read_named_splits(folders, tree, words)
    _refuse_partial_splits(tree, words)
    if len(tops) == 1:
        _refuse_wrapper(folders, root)
    elif tree.is_deep:
        inner = set().union(*tree.inner.values())
        inner_words = split_words(inner)
        if len(inner_words) == len(inner):
            _refuse_conflicts(inner_words)
            splits = {name: SPLITS[word] for name, word in inner_words.items()}
            return _read_inner_splits(folders, splits, _guessed(splits, " in each class folder"))
        _refuse_partial_inner_splits(inner, inner_words)
        _refuse_equal_sub_folders(tree)
    layout = _read_classes(folders)
    if names := sorted(split_words(set().union(*tree.inner.values()))) if len(tops) > 1 else []:
        text = f"folders in class folders that are not taken as splits: {name_list(names)}"
        layout.notes += (Note("guessed", text),)
    if words:
        others = name_list([top for top in tops if top not in words])
        text = f"the folder {name_list(sorted(words))} is a class, because {others} beside it are not splits"
        layout.notes += (Note("guessed", f"{text} (--layout, --split-folders)"),)
    return layout


def _refuse_partial_splits(tree: _Tree, words: Mapping[str, str]) -> None:
    """Raise ``ListingError`` if only some folders have names of splits, and these cannot just be names of classes."""
    others = sorted(tree.inner.keys() - words.keys())
    several = len({SPLITS[word] for word in words.values()}) > 1
    classes_inside = any(len(tree.inner[name]) > 1 and name not in tree.direct for name in words)
    if several or classes_inside:
        splits = f"{name_list(sorted(words))} {'is a split' if len(words) == 1 else 'are splits'}"
        raise ListingError(
            f"can be read in two ways: {splits}, and then {name_list(others)} must be named too "
            f"(--split-folders {_example(others)}) or moved; or all of them are classes (--layout classes)"
        )


def _refuse_partial_inner_splits(inner: Collection[str], words: Mapping[str, str]) -> None:
    """Raise ``ListingError`` if only some sub-folders of the class folders have names of splits."""
    if len({SPLITS[word] for word in words.values()}) > 1:
        others = sorted(set(inner) - words.keys())
        raise ListingError(
            f"can be read in two ways: {name_list(sorted(words))} in the class folders are splits, and then "
            f"{name_list(others)} must be named too (--split-folders {_example(others)}) or moved; or all of them are "
            "parts of the classes (--layout classes)"
        )


def _refuse_wrapper(folders: Sequence[str], root: object) -> None:
    """Raise ``ListingError`` if all images are in one folder that has several folders: it may be no class."""
    paths = [folder.split("/") for folder in folders if folder]
    common = commonpath("/".join(path) for path in paths).split("/")
    depth = next((level for level in range(1, len(common)) if split_word(common[level])), len(common))
    inside = sorted({path[depth] for path in paths if len(path) > depth})
    if common in paths and depth == len(common):
        return
    outer = "/".join(common[:depth])
    kind = "splits" if len(split_words(inside)) == len(inside) else "classes"
    raise ListingError(
        f"can be read in two ways: the folders in {outer} are the {kind} {name_list(inside)}: then give {root}/{outer} "
        f"instead; or {common[0]} is the only class: then give --layout classes (--layout flat: no classes)"
    )


def _refuse_conflicts(words: Mapping[str, str]) -> None:
    """Raise ``ListingError`` if two names stand for the same split by different words."""
    if names := conflicting_words(words):
        split = SPLITS[words[names[0]]]
        raise ListingError(
            f"can be read in two ways: {name_list(names)} are all the split {split}, or they are different splits; "
            f"name the split of each: --split-folders {_example(names)}"
        )


def _refuse_equal_sub_folders(tree: _Tree) -> None:
    """Raise ``ListingError`` if the folders may well be splits or sites: most of them have the same sub-folders."""
    tops, counts = len(tree.inner), dict[str, int]()
    for inside in tree.inner.values():
        for name in inside:
            counts[name] = counts.get(name, 0) + 1
    shared = [name for name, count in counts.items() if count > 1]
    filled = sum(counts.values()) / (tops * len(counts)) if counts else 0
    # Names of classes are in many folders; names that say where or when images were made are usually in one only.
    if len(counts) > 1 and 2 * len(shared) >= len(counts) and filled >= 0.5:
        names, inner = sorted(tree.inner), sorted(counts)
        example = ",".join(f"{name}={split}" for name, split in zip(names, ("train", "test"), strict=False))
        raise ListingError(
            f"can be read in two ways, because its folders have the same sub-folders: the classes {name_list(names)} "
            f"(--layout classes); or the splits {name_list(names)} with the classes {name_list(inner)} in them "
            f"(--layout splits, or --split-folders {example}); choose one"
        )


def _example(folders: Sequence[str]) -> str:
    return ",".join(f"{folder}=NAME" for folder in folders[:3])


def _guessed(splits: Mapping[str, str], where: str = "") -> Note:
    folders = sorted(splits)
    one, named = len(folders) == 1, [splits[folder] for folder in folders]
    if named == folders:
        what = "is a split, not a class" if one else "are splits, not classes"
    else:
        what = f"{'is the split' if one else 'are the splits'} {name_list(named)}"
    text = f"the {'folder' if one else 'folders'} {name_list(folders)}{where} {what}"
    return Note("guessed", f"{text} (--layout, --split-folders)")


def _read_named_splits(folders: Sequence[str], tree: _Tree, words: Mapping[str, str]) -> FolderLayout:
    _refuse_conflicts(words)
    splits = {name: SPLITS[word] for name, word in words.items()}
    layout = _read_splits(folders, tree, splits)
    layout.notes = (_guessed(splits), *layout.notes)
    return layout


def _read_given_splits(folders: Sequence[str], tree: _Tree, given: Mapping[str, str]) -> FolderLayout:
    """Read split folders as the options say. Without ``given``, folders with other names are splits of their names."""
    tops, inner = tree.inner.keys(), set().union(*tree.inner.values()) if tree.inner else set()
    if not tops:
        raise ListingError(
            "must have folders of splits (--layout splits, --split-folders), but has no folder of images"
        )
    in_classes = bool(given) and not (given.keys() & tops) and given.keys() <= inner
    names = inner if in_classes else tops
    if unknown := sorted(given.keys() - names):
        raise ListingError(
            f"must have the folders that --split-folders names, got {name_list(unknown)}; there are "
            f"{name_list(sorted(names))}"
        )
    words = split_words(names)
    splits = {name: given.get(name) or SPLITS.get(words.get(name, "")) or ("" if given else name) for name in names}
    if missing := sorted(name for name, split in splits.items() if not split):
        raise ListingError(
            f"has the folders {name_list(missing)}, whose names are no usual names of splits; name their splits too: "
            f"--split-folders {_example(missing)}"
        )
    return _read_inner_splits(folders, splits) if in_classes else _read_splits(folders, tree, splits)


def _read_classes(folders: Sequence[str]) -> FolderLayout:
    labels = [folder_label(folder + "/") if folder else () for folder in folders]
    reasons = ["" if label else NOT_IN_CLASS for label in labels]
    return FolderLayout("class folders", labels, None, reasons, _merged(folder.partition("/")[0] for folder in folders))


def _read_splits(folders: Sequence[str], tree: _Tree, splits: Mapping[str, str]) -> FolderLayout:
    """Read folders of splits. The images of a split without class folders, as in a contest's test set, get no labels.

    A single folder in a split folder that is named like a split, or just ``images``, is no class: it is left out.
    """
    wrapped = {top for top in splits if top not in tree.direct and _is_wrapper(top, tree.inner[top])}
    inside = [_inside(folder, wrapped) for folder in folders]
    with_classes = {folder.partition("/")[0] for folder, rest in zip(folders, inside, strict=True) if rest}
    labels, reasons = list[LabelNames](), list[str]()
    for folder, rest in zip(folders, inside, strict=True):
        labels.append(folder_label(rest + "/") if rest else ())
        top = folder.partition("/")[0]
        reasons.append(NOT_IN_SPLIT if not top else NOT_IN_CLASS if top in with_classes and not rest else "")
    name = "split folders with class folders" if with_classes else "split folders without class folders"
    notes = _merged(rest.partition("/")[0] for rest in inside)
    bare = name_list(sorted(splits.keys() - with_classes))
    text = f"images in {bare} have no labels, because there are no class folders in it"
    if not with_classes:
        text = f"images have no labels, because there are no class folders in {bare}"
        text = f"{text} (with --layout classes, {bare} would be classes)"
    unlabeled = (Note("guessed", text),) if bare else ()
    names = [splits.get(folder.partition("/")[0], "") for folder in folders]
    return FolderLayout(name, labels, names, reasons, notes, unlabeled)


def _inside(folder: str, wrapped: Collection[str]) -> str:
    """Return the path of a folder below its split folder, and below the folder that wraps the classes."""
    top, _, rest = folder.partition("/")
    return rest.partition("/")[2] if top in wrapped else rest


def _is_wrapper(top: str, inner: Collection[str]) -> bool:
    """Return whether the only folder in a split folder is no class, as in ``train/train`` and ``test/images``."""
    if len(inner) != 1:
        return False
    (name,) = inner
    return name.casefold() == top.casefold() or bool(split_word(name)) or is_general_name(name)


def _read_inner_splits(folders: Sequence[str], splits: Mapping[str, str], *notes: Note) -> FolderLayout:
    """Read class folders with split folders in them."""
    labels, names, reasons = list[LabelNames](), list[str](), list[str]()
    for folder in folders:
        top, _, rest = folder.partition("/")
        labels.append(folder_label(folder + "/") if folder else ())
        names.append(splits.get(rest.partition("/")[0], ""))
        reasons.append(NOT_IN_CLASS if not top else "" if names[-1] else NOT_IN_SPLIT)
    merged = _merged(folder.partition("/")[0] for folder in folders)
    return FolderLayout("class folders with split folders", labels, names, reasons, (*notes, *merged))


def _merged(folders: Iterable[str]) -> tuple[Note, ...]:
    """Say which folders became one class, because blanks around the name of a class do not count."""
    spellings = dict[str, list[str]]()
    for name in sorted({name for name in folders if name}):
        spellings.setdefault(clean_folder_name(name), []).append(name)
    notes = []
    for label, names in spellings.items():
        if len(names) > 1:
            notes.append(Note("merged", f"the folders {_quote(names)} are one class", len(names)))
        elif names != [label]:
            notes.append(Note("merged", f"the folder {_quote(names)} is the class {_quote([label])}", 1))
    return tuple(notes)


def _quote(names: Sequence[str]) -> str:
    return name_list([repr(name) for name in names])
