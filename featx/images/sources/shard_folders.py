"""Label the images of tar shards by the folders in their names, as `folder_layout` does for a folder of images."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from featx.images.sources.folder_layout import decide_layout
from featx.images.sources.notes import Note, name_list
from featx.images.sources.options import ListingOptions
from featx.images.sources.split_names import SPLITS, split_words
from featx.table import CategoricalArray, ImageTable


class ShardLayout(NamedTuple):
    """The images of some shards, with the labels and splits of their folders.

    Attributes
    ----------
    table : ImageTable
    name : str
        A phrase such as ``"tar shards with class folders"``.
    notes : tuple of Note
        What was guessed.
    """

    table: ImageTable
    name: str
    notes: tuple[Note, ...]


def label_by_folders(
    table: ImageTable,
    folders: CategoricalArray[str],
    unlabeled: NDArray[np.bool_],
    whose: str,
    options: ListingOptions,
) -> ShardLayout:
    """Give images the label and the split of their folders.

    Parameters
    ----------
    table : ImageTable
    folders : CategoricalArray of str
        The folder of each image, such as ``"train/cat"``; ``""`` if it is in no folder.
    unlabeled : bool (rows,)
        Whether an image has no file with a label, so that its folder is the label.
    whose : str
        The name of the shards in error messages.
    options : ListingOptions
        What the folders are.

    Raises
    ------
    ListingError
        If the folders can be read in two ways.
    """
    names = sorted(set(folders.take(np.flatnonzero(unlabeled)).used_categories()))
    is_given = options.layout != "auto" or options.split_folders is not None
    if not any(names) and not is_given:
        return _split_labeled_images(table, folders)
    outer = "" if is_given else _common_folder(names)
    inner = [name[len(outer) :] for name in names]
    layout = decide_layout(inner, whose, options)
    notes = list(layout.notes)
    if outer:
        text = f"the folder {outer.rstrip('/')} around all others is neither a class nor a split (--layout classes)"
        notes.insert(0, Note("guessed", text))
    labels = CategoricalArray.concatenate([table.labels, CategoricalArray(layout.labels, np.zeros(0, np.int32))])
    code_of = {value: code for code, value in enumerate(labels.categories)}
    label_of = {name: code_of[label] for name, label in zip(names, layout.labels, strict=True)}
    by_folder = np.array([label_of.get(name, -1) for name in folders.categories], np.int32)[folders.codes]
    codes = np.where(unlabeled, by_folder, labels.codes).astype(np.int32)
    columns = dict(table.columns)
    if layout.splits is not None and "split" not in columns:
        split_of = dict(zip(names, layout.splits, strict=True))
        splits = [split_of.get(name, "") for name in folders.categories]
        columns["split"] = CategoricalArray.concatenate([CategoricalArray(splits, folders.codes)])
    name = f"tar shards with {layout.name}" if any(layout.labels) or layout.splits else "tar shards"
    return ShardLayout(ImageTable(table.paths, CategoricalArray(labels.categories, codes), columns), name, tuple(notes))


def _split_labeled_images(table: ImageTable, folders: CategoricalArray[str]) -> ShardLayout:
    """Take the splits of images with labels of their own, if all folders are usual names of splits."""
    tops = {name: name.partition("/")[0] for name in folders.used_categories()}
    words = split_words(set(tops.values()))
    splits = {top: SPLITS[word] for top, word in words.items()}
    if "split" in table.columns or "train" not in splits.values() or not set(tops.values()) <= splits.keys():
        return ShardLayout(table, "tar shards", ())
    values = [splits.get(tops.get(name, ""), "") for name in folders.categories]
    column = CategoricalArray.concatenate([CategoricalArray(values, folders.codes)])
    note = Note("guessed", f"the folders {name_list(sorted(splits))} are the splits of their images")
    return ShardLayout(
        ImageTable(table.paths, table.labels, {**table.columns, "split": column}),
        "tar shards with split folders",
        (note,),
    )


def _common_folder(folders: Sequence[str]) -> str:
    """Return the folder that contains several other folders, with a ``/`` at its end; ``""`` if there is none.

    An archive of a folder has its name before all names.
    """
    outer = ""
    while True:
        inner = {folder[len(outer) :] for folder in folders}
        tops = {folder.partition("/")[0] for folder in inner}
        if len(tops) > 1 or not all("/" in folder for folder in inner):
            # A single folder of images is a class. The folders around it are left out.
            return outer if len(tops) > 1 else ""
        outer += f"{tops.pop()}/"
