"""Recognize the usual names of splits: of folders, of files, and of parts of a data set."""

import re
from collections.abc import Collection, Mapping

SPLITS = {
    "train": "train", "training": "train", "trainval": "train",
    "val": "val", "valid": "val", "validation": "val", "dev": "val",
    "test": "test", "testing": "test", "eval": "test", "evaluation": "test",
}  # fmt: skip
"""The split that a word stands for."""
_STEMS = {"training": "train", "valid": "val", "validation": "val", "testing": "test", "evaluation": "eval"}
"""Forms of one word. Other words for the same split, such as ``dev`` beside ``val``, may mean another split."""
_AFFIX = r"(?:data|dataset|set|split|folder|images?|imgs?|photos?|pictures?|pics?|files?|samples?|\d+)"
_WORD = re.compile(rf"{_AFFIX}*?(?P<word>{'|'.join(sorted(SPLITS, key=len, reverse=True))})?{_AFFIX}*")
_SEPARATORS = re.compile(r"[\W_]+")
_CAPITAL = re.compile(r"(?<=[a-z])(?=[A-Z])")


def split_word(name: str, ignored: Collection[str] = ()) -> str:
    """Find the word in a name that stands for a split; ``""`` if the name has no such word, or has any other word.

    The name may have any case. It may contain words such as ``set`` and ``images``, numbers, and the words ``ignored``.

    Examples
    --------
    >>> [split_word(name) for name in ("Training", "test_set", "ValImages", "train2017", "cat", "test flight")]
    ['training', 'test', 'val', 'train', '', '']
    """
    matches = [_WORD.fullmatch(part) for part in _parts(name) if part not in ignored]
    if not all(matches):
        return ""
    found = {match["word"] for match in matches if match and match["word"]}
    if found == {"train", "val"}:
        return "trainval"
    return found.pop() if len(found) == 1 else ""


def split_words(names: Collection[str]) -> dict[str, str]:
    """Find the words of those names that stand for splits, as `split_word` does.

    Words that all of several names have are ignored, such as ``flowers`` in ``flowers_train`` and ``flowers_test``.
    """
    common = set.intersection(*(set(_parts(name)) for name in names)) - SPLITS.keys() if len(names) > 1 else set()
    words = {name: split_word(name, common) for name in names}
    return {name: word for name, word in words.items() if word}


def split_of_name(name: str) -> str:
    """Return the split, ``train``, ``val`` or ``test``, that a name stands for; ``""`` if it stands for none."""
    return SPLITS.get(split_word(name), "")


def split_of_file(name: str) -> str:
    """Return the split that a word in the name of a file stands for, whatever else the name has; ``""`` if none."""
    return next((SPLITS[word] for word in _SEPARATORS.split(name.casefold()) if word in SPLITS), "")


def is_general_name(name: str) -> bool:
    """Return whether a name says only that there are images, such as ``images`` or ``data``."""
    return bool(_parts(name)) and all(re.fullmatch(_AFFIX + "+", part) and not part.isdigit() for part in _parts(name))


def conflicting_words(words: Mapping[str, str]) -> list[str]:
    """Find names that stand for the same split by different words, such as ``eval`` and ``test``; sorted.

    One of the words must then mean another split. Names with the same word, such as ``train1`` and ``train2``, are
    parts of one split.

    Parameters
    ----------
    words : mapping of str to str
        The word of each name, as `split_words` returns it.
    """
    stems = {name: _STEMS.get(word, word) for name, word in words.items()}
    return sorted(
        name for name in words
        if any(SPLITS[words[other]] == SPLITS[words[name]] and stems[other] != stems[name] for other in words)
    )  # fmt: skip


def _parts(name: str) -> list[str]:
    return [part for part in _SEPARATORS.split(_CAPITAL.sub(" ", name).casefold()) if part]
