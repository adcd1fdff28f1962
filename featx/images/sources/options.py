"""Options that say how to read a source, if it can be read in several ways."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import Any, Literal, get_args

from featx.errors import ListingError, SpecError
from featx.runtime import short_repr

Layout = Literal["auto", "classes", "splits", "flat"]
LAYOUTS: tuple[str, ...] = get_args(Layout)


@dataclass(frozen=True, repr=False)
class ListingOptions:
    """How to read a source of images. The defaults suit most sources.

    Parameters
    ----------
    layout : {"auto", "classes", "splits", "flat"}
        What the sub-folders of a folder are. ``classes``: each sub-folder is a class. ``splits``: each sub-folder is a
        split, which may have class folders. ``flat``: images may lie in any sub-folder, and get no labels. ``auto``:
        splits if the names of the sub-folders are usual names of splits, classes otherwise.
    split_folders : mapping of str to str, optional
        The split of each sub-folder, such as ``{"Training": "train", "Testing": "test"}``. Sub-folders that are not in
        it must have usual names of splits.
    label_column : str, optional
        The column of a table, or the field of a sample, that has the labels. The default is ``label``.
    group_column : str, optional
        The column of a table, or the field of a sample, whose value is the same for images that belong together, such
        as the images of one patient. It is kept as the column ``group``.

    Raises
    ------
    SpecError
        If a value is not among the choices, or if two options contradict each other.

    Examples
    --------
    >>> from featx import ListingOptions
    >>> ListingOptions(label_column="diagnosis", group_column="patient")
    ListingOptions(label_column='diagnosis', group_column='patient')
    """

    layout: Layout = "auto"
    split_folders: Mapping[str, str] | None = None
    label_column: str | None = None
    group_column: str | None = None

    def __post_init__(self) -> None:
        if self.layout not in LAYOUTS:
            raise SpecError(f"layout of ListingOptions must be one of {', '.join(LAYOUTS)}, got {self.layout!r}")
        for name in ("label_column", "group_column"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, str) or not value.strip()):
                raise SpecError(f"{name} of ListingOptions must be the name of a column, got {value!r}")
        if self.label_column is not None and self.label_column == self.group_column:
            raise SpecError(
                f"label_column and group_column of ListingOptions must be different, got {self.label_column!r} twice"
            )
        if self.split_folders is not None:
            self._check_split_folders(self.split_folders)

    def __repr__(self) -> str:
        return short_repr(self)

    def _check_split_folders(self, splits: Mapping[str, str]) -> None:
        if not isinstance(splits, Mapping) or not splits:
            raise SpecError(
                "split_folders of ListingOptions must map folders to splits, such as {'Training': 'train'}, "
                f"got {splits!r}"
            )
        for folder, split in splits.items():
            names = (folder, split)
            if not all(isinstance(name, str) and name.strip() for name in names) or "/" in folder.strip("/"):
                raise SpecError(
                    "split_folders of ListingOptions must map the name of a folder to the name of a split, "
                    f"got {folder!r}: {split!r}"
                )
        if self.layout not in ("auto", "splits"):
            raise SpecError(
                f"split_folders of ListingOptions is for layout splits, got layout {self.layout}; leave one of them out"
            )
        folders = {folder.strip("/"): split.strip() for folder, split in splits.items()}
        # A frozen copy: the mapping of the caller may change later.
        object.__setattr__(self, "split_folders", MappingProxyType(folders))

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as values that JSON can hold; ``ListingOptions(**fields)`` gives the same options."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {**values, "split_folders": None if self.split_folders is None else dict(self.split_folders)}

    def __reduce__(self) -> tuple[Any, ...]:
        # A mapping proxy cannot be pickled.
        return _from_dict, (self.to_dict(),)

    def check_used(self, source: str, *used: str) -> None:
        """Raise ``ListingError`` if a field is set that has no effect for a source.

        Parameters
        ----------
        source : str
            What the source is, for the message: ``"a tar shard"``.
        used : str
            The names of the fields that have an effect.
        """
        for field in fields(self):
            if field.name not in used and getattr(self, field.name) != field.default:
                option = "--" + field.name.replace("_", "-")
                raise ListingError(f"{option} must be left out for {source}: it has no effect there")


def _from_dict(values: dict[str, Any]) -> ListingOptions:
    return ListingOptions(**values)


DEFAULT_OPTIONS = ListingOptions()
