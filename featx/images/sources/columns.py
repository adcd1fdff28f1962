"""Find the columns of a table by their names: the path, the label, the group, and other columns that are kept."""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from featx.errors import ListingError
from featx.images.sources.metadata import KEPT_PREFIXES, check_distinct_columns, is_kept_column
from featx.images.sources.notes import Note, name_list
from featx.images.sources.options import ListingOptions
from featx.runtime import pluralize

PATH, LABEL, GROUP = "path", "label", "group"
PATH_NAMES = (
    "path", "file", "filename", "filepath", "image", "imagefile", "imagefilename", "imagename", "imagepath", "img",
    "imgfile", "imgname", "imgpath", "relpath", "relativepath",
)  # fmt: skip
"""Usual names of columns with paths, as `simplify_name` returns them."""
ID_NAMES = ("id", "idcode", "imageid", "imgid")
"""Names of columns with names of files, often without a suffix. They are used if no column is named otherwise."""
LABEL_NAMES = (
    "label", "labels", "labelname", "labelnames", "class", "classes", "classname", "classlabel", "category",
    "categories", "categoryname", "target", "targets", "targetname", "tag", "tags", "groundtruth", "y",
)  # fmt: skip
"""Usual names of columns with labels, as `simplify_name` returns them."""
GROUP_NAMES = (
    "animal", "burst", "case", "individual", "participant", "patient", "person", "scene", "sequence", "session",
    "slide", "specimen", "study", "subject", "video",
)  # fmt: skip
"""Words by which a column that is not kept is recognized as one of groups."""
SPLIT_NAMES = ("subset", "set", "partition", "phase", "usage", "fold", "dataset", "traintest", "trainortest", "mode")
"""Names of columns that are not kept, but may be splits, as `simplify_name` returns them."""
_FILLERS = re.compile(r"[\s_.-]+")


@dataclass(frozen=True)
class TableColumns:
    """The columns of a table, by their names in the table.

    Attributes
    ----------
    path : str or None
        The column of paths; None if the images are in the table.
    label : str or None
        The column of labels; None if there is none.
    kept : dict of str to str
        For each column that a store keeps, its name in the table by its name in the store.
    dropped : tuple of str
        The columns that are not kept.
    guessed : tuple of str
        What was guessed, as the texts of notes.
    """

    path: str | None
    label: str | None
    kept: Mapping[str, str] = field(default_factory=dict)
    dropped: tuple[str, ...] = ()
    guessed: tuple[str, ...] = ()

    @property
    def source_names(self) -> dict[str, str]:
        """The name in the table of each column that has another name in a listing."""
        names = {LABEL: self.label, **self.kept}
        return {name: source.strip() for name, source in names.items() if source and source.strip() != name}

    @property
    def used(self) -> list[str]:
        """The columns that must be read."""
        return list(dict.fromkeys(filter(None, (self.path, self.label, *self.kept.values()))))

    def rename(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return the label and the kept values of a row by the names that they have in a listing."""
        row = {name: values[source] for name, source in self.kept.items()}
        return row if self.label is None else {**row, LABEL: values[self.label]}


def find_columns(
    names: Sequence[str],
    whose: str,
    options: ListingOptions,
    *,
    path: str | None = None,
    images: Collection[str] = (),
    classes: Collection[str] = (),
    required: bool = True,
) -> TableColumns:
    """Find the columns of a table by their names.

    Parameters
    ----------
    names : sequence of str
        The names of all columns. Columns without a name are ignored.
    whose : str
        The name of the table in error messages.
    options : ListingOptions
        Names of columns that the user chose.
    path : str, optional
        The column of paths (see `find_path_column`).
    images : collection of str
        Columns of images. They are neither labels nor dropped.
    classes : collection of str
        Columns whose type says that they are labels.
    required : bool
        Whether the columns that ``options`` name must exist.

    Raises
    ------
    ListingError
        If two columns have the same name, if ``options`` name a column that does not exist, or if a store could not
        keep a column because of its name.
    SeveralLabels
        If several columns may be the labels.
    """
    names = [name for name in names if name.strip()]
    others = [name for name in names if name != path and name not in images]
    kept = _kept_columns(others, whose)
    group = _find_chosen(others, options.group_column, "--group-column", whose, required=required)
    if group is not None:
        kept = {**kept, GROUP: group}
    guessed = list[str]()
    label = _find_chosen(others, options.label_column, "--label-column", whose, required=required)
    if options.label_column is None:
        label = _guess_label([name for name in others if name not in kept.values()], whose, classes)
        if label is not None and label.strip() != LABEL:
            guessed.append(f"the label column is {label.strip()}")
    used = {(name or "").strip() for name in (path, label, *kept.values())}
    check_distinct_columns([name.strip() for name in names if name.strip() in used], whose)
    dropped = [name.strip() for name in others if name != label and name not in kept.values()]
    return TableColumns(path, label, kept, tuple(dropped), tuple(guessed))


def find_path_column(names: Sequence[str], whose: str) -> str | None:
    """Find the column of paths by its name; return None if no column has a usual name.

    Raises
    ------
    ListingError
        If several columns may be the paths, and none is named ``path``.
    """
    if exact := [name for name in names if name.strip() == PATH]:
        return exact[0]
    for known in (PATH_NAMES, ID_NAMES):
        found = [name for name in names if simplify_name(name) in known]
        if len(found) > 1:
            raise ListingError(
                f"{whose} must have one column of paths, got {name_list(found)}; rename one of them to path"
            )
        if found:
            return found[0]
    return None


class SeveralLabels(ListingError):
    """Several columns of a table may be the labels.

    Attributes
    ----------
    columns : list of str
        These columns.
    """

    def __init__(self, whose: str, columns: list[str]) -> None:
        super().__init__(
            f"{whose} must have one column of labels, got {name_list(columns)}; choose one by --label-column NAME"
        )
        self.columns = columns


class ColumnFinder:
    """Find the columns of tables that are one source, such as its shards. Some of the tables may lack a column.

    Parameters
    ----------
    whose : str
        The name of the source in error messages.
    options : ListingOptions
        Names of columns that the user chose.
    """

    def __init__(self, whose: str, options: ListingOptions) -> None:
        self._whose, self._options = whose, options
        self._tables = dict[tuple[str, ...], TableColumns]()

    def find(
        self, names: Iterable[str], whose: str, images: Collection[str] = (), classes: Collection[str] = ()
    ) -> TableColumns:
        """Find the columns of one table; the arguments and errors are those of `find_columns`."""
        names = tuple(names)
        if names not in self._tables:
            self._tables[names] = find_columns(
                names, whose, self._options, images=images, classes=classes, required=False
            )
        return self._tables[names]

    def update(self, other: "ColumnFinder") -> None:
        """Add the tables of another finder."""
        self._tables = {**self._tables, **other._tables}

    def finish(self, others: Sequence[str] = ()) -> tuple[dict[str, str], tuple[Note, ...]]:
        """Return the names of renamed columns, and the notes on the columns of all tables.

        Parameters
        ----------
        others : sequence of str
            Columns that may be chosen, but are in no table.

        Raises
        ------
        ListingError
            If ``options`` name a column that no table has.
        """
        names = list(dict.fromkeys([*(name for names in self._tables for name in names), *others]))
        _find_chosen(names, self._options.label_column, "--label-column", self._whose)
        _find_chosen(names, self._options.group_column, "--group-column", self._whose)
        renamed = {name: source for table in self._tables.values() for name, source in table.source_names.items()}
        return renamed, describe_columns(list(self._tables.values()))


def describe_columns(tables: Sequence[TableColumns]) -> tuple[Note, ...]:
    """Make the notes on the columns of tables that are one source."""
    notes = [Note("guessed", text) for text in dict.fromkeys(text for table in tables for text in table.guessed)]
    dropped = list(dict.fromkeys(name for table in tables for name in table.dropped))
    if dropped and all(table.label is None for table in tables):
        notes.append(Note("hint", f"no column {LABEL}; there are {name_list(dropped)}: --label-column NAME"))
    elif dropped:
        text = f"{pluralize(len(dropped), 'column')} not kept: {name_list(dropped)}"
        notes.append(Note("skipped", text, len(dropped)))
    grouping = [name for name in dropped if _is_group(name)]
    if grouping and all(GROUP not in table.kept for table in tables):
        notes.append(
            Note("hint", f"images of one {grouping[0]} may be in training and in test: --group-column {grouping[0]}")
        )
    if (splits := [name for name in dropped if simplify_name(name) in SPLIT_NAMES]) and not any(
        name.startswith("split") for table in tables for name in table.kept
    ):
        notes.append(Note("hint", f"the column {splits[0]} may be the splits: to keep it, rename it to split"))
    return tuple(notes)


def _find_chosen(
    names: Sequence[str], name: str | None, option: str, whose: str, *, required: bool = True
) -> str | None:
    """Find the column that an option names, by its name or in another case if that is unique.

    None is returned if the option names no column, or if the column does not exist and is not ``required``.
    """
    if name is None:
        return None
    exact = [each for each in names if each.strip() == name.strip()]
    similar = exact or [each for each in names if each.strip().casefold() == name.strip().casefold()]
    if len(similar) == 1:
        return similar[0]
    if required:
        raise ListingError(
            f"{option} must be a column of {whose}: {name_list(list(names)) or 'it has none'}, got {name!r}"
        )
    return None


def _guess_label(names: Sequence[str], whose: str, classes: Collection[str]) -> str | None:
    if exact := [name for name in names if name.strip() == LABEL]:
        return exact[0]
    found = [name for name in names if name in classes or simplify_name(name) in LABEL_NAMES]
    if len(found) > 1:
        raise SeveralLabels(whose, found)
    return found[0] if found else None


def _kept_columns(names: Sequence[str], whose: str) -> dict[str, str]:
    """Find the columns that a store keeps. In the store, their names begin with a lower-case prefix."""
    kept = dict[str, str]()
    try:
        for name in names:
            stored = name.strip()
            if prefix := next((each for each in KEPT_PREFIXES if stored.casefold().startswith(each)), ""):
                stored = prefix + stored[len(prefix) :]
            if is_kept_column(stored) and (stored not in kept or stored == name.strip()):
                kept[stored] = name
    except ListingError as error:
        raise ListingError(f"{whose} {error}") from None
    return kept


def _is_group(name: str) -> bool:
    simple = simplify_name(name)
    return any(simple in (word, f"{word}s", f"{word}id", f"{word}no", f"{word}name") for word in GROUP_NAMES)


def simplify_name(name: str) -> str:
    """Return the name of a column in lower case, without blanks, underscores, dots and hyphens."""
    return _FILLERS.sub("", name.casefold())
