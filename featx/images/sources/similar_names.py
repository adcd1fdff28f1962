"""Find names that a person would take for one: they differ only in case, spaces, hyphens or Unicode forms."""

import re
import unicodedata
from collections.abc import Iterable, Mapping

from featx.images.sources.notes import Note, count_list, name_list

_SEPARATORS = re.compile(r"[\s_-]+")
SHOWN_GROUPS = 5
NO_VALUE = frozenset(("nan", "na", "n/a", "#n/a", "<na>", "none", "null"))
"""How programs write that there is no value, in lower case."""


def similar_names(names: Iterable[str]) -> list[tuple[str, ...]]:
    """Find groups of two or more names that a person would take for one; all are sorted.

    Examples
    --------
    >>> similar_names(["Cat", "cat", "sea_lion", "Sea Lion", "dog"])
    [('Cat', 'cat'), ('Sea Lion', 'sea_lion')]
    """
    groups = dict[str, set[str]]()
    for name in names:
        # NFKC also replaces full-width letters and ligatures by the usual letters.
        key = _SEPARATORS.sub(" ", unicodedata.normalize("NFKC", name).casefold()).strip()
        groups.setdefault(key, set()).add(name)
    return sorted(tuple(sorted(each)) for each in groups.values() if len(each) > 1)


def note_similar_names(counts: Mapping[str, int], what: str) -> tuple[Note, ...]:
    """Say which names a person would take for one.

    Parameters
    ----------
    counts : mapping of str to int
        Number of images by name.
    what : str
        What the names are, such as ``"classes"``.
    """
    groups = similar_names(counts)
    if not groups:
        return ()
    shown = [" and ".join(f"{_quote(name)} ({counts[name]:,})" for name in group) for group in groups[:SHOWN_GROUPS]]
    more = [f"{len(groups) - SHOWN_GROUPS:,} more"] if len(groups) > SHOWN_GROUPS else []
    text = f"{what} whose names differ only in case, spaces, hyphens or Unicode form: {'; '.join([*shown, *more])}"
    return (Note("hint", text, len(groups)),)


def note_missing_names(counts: Mapping[str, int]) -> tuple[Note, ...]:
    """Say which classes have a name by which programs write that there is no value.

    Parameters
    ----------
    counts : mapping of str to int
        Number of images of each class.
    """
    found = {name: count for name, count in counts.items() if name.casefold() in NO_VALUE}
    text = f"classes that may stand for no label: {count_list(found)}; for no label, leave the cell empty"
    return (Note("hint", text, len(found)),) if found else ()


def _quote(name: str) -> str:
    """Quote a name. Names that look alike, because they have other Unicode characters, are shown with escapes."""
    quoted = repr(name_list([name]))
    return quoted if unicodedata.is_normalized("NFC", name) else ascii(name_list([name]))
