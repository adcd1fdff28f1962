"""Keep what Pillow warns of and logs from showing while images are decoded, in any number of threads."""

import logging
import re
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

# Pillow blames some of its deprecations on its caller, which is a module of this package.
_PILLOW = re.compile(r"(PIL|featx\.images)\.")
_lock = threading.Lock()
_inside: list[int] = []
_logged = threading.local()


class _Logged(logging.Handler):
    """Takes the first record of a thread within `capture_pillow_messages`; handlers that a program has set get all as before.

    That there is a handler keeps ``logging`` from its last resort, which is standard error.
    """

    def emit(self, record: logging.LogRecord) -> None:
        lines = getattr(_logged, "lines", None)
        if lines == []:
            lines.append(" ".join(record.getMessage().split()))


logging.getLogger("PIL").addHandler(_Logged(logging.WARNING))


@contextmanager
def capture_pillow_messages() -> Iterator[list[str]]:
    """Ignore warnings that Pillow's modules raise, until the last thread has left.

    What they log first in this thread, if anything, is in the list that is given.

    ``warnings.catch_warnings`` puts back a whole list of filters, so of two threads inside it the later one
    restores what the earlier one had set. Here one entry is added at the first entry and taken away at the last
    exit, and no one else's filters are touched.
    """
    with _lock:
        _inside.append(threading.get_ident())
        if not any(map(_is_ours, warnings.filters[:1])):
            warnings.filterwarnings("ignore", module=_PILLOW.pattern)
    _logged.lines = lines = list[str]()
    try:
        yield lines
    finally:
        _logged.lines = None
        with _lock:
            _inside.remove(threading.get_ident())
            if not _inside:
                filters = cast(list[Any], warnings.filters)
                filters[:] = [entry for entry in filters if not _is_ours(entry)]


def _is_ours(entry: tuple[Any, ...]) -> bool:
    """Whether a filter is the one added here."""
    return entry == ("ignore", None, Warning, _PILLOW, 0)
