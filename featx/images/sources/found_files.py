"""The files below a folder: images, and what else is there. Notes say what was skipped."""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from featx.images.decoding.formats import suffix_of
from featx.images.sources.notes import Note, count_list
from featx.runtime import pluralize

CONTAINERS = (".tar", ".parquet")
"""Suffixes of container files, which hold many images; `any_source.CONTAINER_LISTERS` has a function for each."""
METADATA = frozenset(("metadata.csv", "metadata.jsonl", "metadata.parquet"))
"""Files with labels and columns of the images beside them, in lower case (see `folder_metadata`)."""
TABLES = (".csv", ".tsv", ".jsonl", ".xlsx")
"""Suffixes of files that may be manifests."""
NO_SUFFIX = "no suffix"
_NOT_A_SUFFIX = re.compile(r"\.\d*|.*\s.*", re.DOTALL)
"""What comes after the last dot of a name but is no suffix: digits, as in ``scan.0001``, or several words."""
SYSTEM_FOLDERS = frozenset(
    name.casefold()
    for name in (
        "@eaDir", "#recycle", "#snapshot", "@tmp", "@sharebin",  # Synology
        "@Recycle", "@Recently-Snapshot", "@__thumb",  # QNAP
        "~snapshot",  # NetApp
        "$RECYCLE.BIN", "System Volume Information",  # Windows
        "__MACOSX", "Network Trash Folder", "Temporary Items",  # macOS
        "lost+found", "__pycache__",
    )
)  # fmt: skip
"""Folders that file servers and operating systems make. Those whose names begin with a dot are hidden anyway."""
SYSTEM_FILES = frozenset(("thumbs.db", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini", "icon\r"))
"""Files that operating systems make, in lower case."""
METADATA_SUFFIXES = frozenset(suffix_of(name) for name in METADATA)
SYSTEM_SUFFIXES = frozenset(suffix_of(name) for name in SYSTEM_FILES)
THUMBNAIL = "SYNOPHOTO_THUMB_"
"""How the names of thumbnails begin that a Synology server makes; elsewhere than in ``@eaDir``, they were copied."""
HINTS = {
    (".heic", ".heif", ".hif", ".avif"): "to read {}, install pillow-heif: pip install pillow-heif",
    (".dcm", ".dicom"): "featx does not read DICOM ({}); save the images as PNG or TIFF of 8 or 16 bits",
    (".cr2", ".cr3", ".nef", ".arw", ".dng", ".orf", ".rw2", ".raf"): (
        "featx does not read camera raw ({}); save the images as TIFF or JPEG"
    ),
    (
        ".zip",
        ".gz",
        ".tgz",
        ".7z",
        ".rar",
        ".bz2",
        ".xz",
        ".zst",
    ): "featx does not unpack archives ({}); unpack them",
    (".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v"): "featx does not read videos ({}); save their frames as images",
}
"""What to do about files with certain suffixes."""


@dataclass
class FoundFiles:
    """The files below a folder, by paths relative to it.

    Attributes
    ----------
    paths : list of str
        Image files.
    failures : list of (str, str)
        The path of each file or folder that could not be listed, and the reason.
    skipped : Counter
        For each suffix in lower case, the number of files that are not images.
    hidden, system : Counter
        The number of hidden files and folders, and of those that file servers and operating systems make, by name.
    containers : list of str
        Those of the skipped files that hold many images.
    metadata, tables : list of str
        Files that are named in `METADATA`, and those of the skipped files that may be manifests.
    unnamed : list of str
        Files whose names have no suffix, before `take_unnamed` has decided about them.
    recognized : int
        Number of files without a suffix that are images by their first bytes.
    """

    paths: list[str] = field(default_factory=list)
    failures: list[tuple[str, str]] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)
    hidden: Counter[str] = field(default_factory=Counter)
    system: Counter[str] = field(default_factory=Counter)
    containers: list[str] = field(default_factory=list)
    metadata: list[str] = field(default_factory=list)
    tables: list[str] = field(default_factory=list)
    unnamed: list[str] = field(default_factory=list)
    recognized: int = 0

    def hide(self, name: str) -> None:
        """Count a hidden file or folder."""
        self.hidden["._*" if name.startswith("._") else name] += 1

    def skip(self, path: str, name: str, suffix: str) -> None:
        """Count a file whose suffix is not that of an image, or keep it in ``unnamed``."""
        if suffix in SYSTEM_SUFFIXES and name.casefold() in SYSTEM_FILES:
            self.system[name.strip()] += 1
        elif not suffix or _NOT_A_SUFFIX.fullmatch(suffix):
            self.unnamed.append(path)
        elif suffix in METADATA_SUFFIXES and name.casefold() in METADATA:
            self.metadata.append(path)
        else:
            self.skipped[suffix] += 1
            if suffix in CONTAINERS:
                self.containers.append(path)
            elif suffix in TABLES:
                self.tables.append(path)

    def skip_metadata(self) -> None:
        """Treat the metadata files as any other files, because they are not used."""
        for path in self.metadata:
            suffix = suffix_of(path)
            self.skipped[suffix] += 1
            (self.containers if suffix in CONTAINERS else self.tables).append(path)
        self.metadata = []

    def take_unnamed(self, images: Mapping[str, bool]) -> None:
        """Take the files without a suffix that are images, and count the others. ``images`` says which ones are."""
        taken = [path for path in self.unnamed if images.get(path)]
        self.paths += taken
        self.recognized += len(taken)
        if len(taken) < len(self.unnamed):
            self.skipped[NO_SUFFIX] += len(self.unnamed) - len(taken)
        self.unnamed = []

    def notes(self, *, containers: bool = False) -> tuple[Note, ...]:
        """Say what was skipped. With ``containers``, container files were not skipped but listed."""
        skipped = Counter(self.skipped)
        if containers:
            skipped -= Counter(suffix_of(path) for path in self.containers)
        notes = [
            _skipped(skipped, "file skipped", "files skipped"),
            _skipped(self.system, "file or folder of a file server or operating system skipped",
                     "files and folders of file servers and operating systems skipped"),
            _skipped(self.hidden, "hidden file or folder skipped", "hidden files and folders skipped"),
        ]  # fmt: skip
        if self.recognized:
            text = f"{pluralize(self.recognized, 'file')} without a suffix taken: images by their first bytes"
            notes.append(Note("guessed", text, self.recognized))
        for suffixes, hint in HINTS.items():
            if found := [suffix for suffix in suffixes if suffix in skipped]:
                notes.append(Note("hint", hint.format(", ".join(found))))
        return tuple(note for note in notes if note)


def _skipped(counts: Counter[str], singular: str, plural: str) -> Note | None:
    total = counts.total()
    return Note("skipped", f"{pluralize(total, singular, plural)}: {count_list(counts)}", total) if total else None


def is_system_folder(name: str) -> bool:
    """Return whether a folder is one that a file server or operating system makes."""
    return name.casefold() in SYSTEM_FOLDERS
