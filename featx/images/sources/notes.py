"""Notes say what a source skipped, guessed, merged or converted, so that nothing of this is silent."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from featx.runtime import shorten_list

NoteKind = Literal["skipped", "guessed", "merged", "converted", "hint"]
SHOWN_NAMES = 6
"""Number of names that a note shows. A note is stored with the features, so it must stay short."""
SHOWN_CHARACTERS = 80
"""Number of characters that a note shows of a name."""


@dataclass(frozen=True)
class Note:
    """One thing that a person should know about how a source was read.

    Attributes
    ----------
    kind : {"skipped", "guessed", "merged", "converted", "hint"}
        ``skipped``: files or values that were left out. ``guessed``: a decision that an option can change.
        ``merged``: rows or files that became one. ``converted``: values that were read in another form. ``hint``:
        advice.
    text : str
        A short phrase without a full stop. It contains the count, if there is one:
        ``3 files skipped: .heic (2), no suffix (1)``.
    count : int
        The same count as a number; 0 if the note counts nothing.
    """

    kind: NoteKind
    text: str
    count: int = 0

    def __str__(self) -> str:
        return f"{self.kind}: {self.text}" if self.kind in ("guessed", "hint") else self.text

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Note":
        """Create a note from the fields that ``dataclasses.asdict`` returned; ``ValueError`` if they are not those."""
        kind, text, count = values["kind"], values["text"], values["count"]
        if kind not in get_args(NoteKind) or not isinstance(text, str) or not isinstance(count, int):
            raise ValueError(f"a note must have a kind, a text and a count, got {dict(values)!r}")
        return cls(kind, text, count)


def name_list(names: "list[str] | tuple[str, ...]") -> str:
    """Join names for a note. Of many names only some are shown, and of a long name only its start."""
    return shorten_list([name if len(name) <= SHOWN_CHARACTERS else name[:SHOWN_CHARACTERS] + "…" for name in names],
                        SHOWN_NAMES)  # fmt: skip


def count_list(counts: Mapping[str, int], most: int = SHOWN_NAMES) -> str:
    """Join ``most`` names with their counts, the most frequent first: ``.heic (2), .dcm (1)``."""
    order = sorted(counts, key=lambda name: (-counts[name], name))
    shown = [f"{name_list([name])} ({counts[name]:,})" for name in order[:most]]
    if len(order) > most:
        rest = order[most:]
        shown.append(f"{len(rest):,} more ({sum(counts[name] for name in rest):,})")
    return ", ".join(shown)
