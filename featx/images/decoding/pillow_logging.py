"""Hide Pillow's warnings and collect its log messages while images are decoded, in any number of threads."""

import logging
import re
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

# Pillow attributes some of its deprecation warnings to its caller, which is a module of this package.
_MODULES = re.compile(r"(PIL|featx\.images)\.")
_lock = threading.Lock()
_threads_inside: list[int] = []
_captured = threading.local()


class _FirstMessageHandler(logging.Handler):
    """Take the first message that Pillow logs in each thread within `capture_pillow_messages`.

    Handlers of the program still get every message. Without any handler, ``logging`` would write to standard error.
    """

    def emit(self, record: logging.LogRecord) -> None:
        messages = getattr(_captured, "messages", None)
        if messages == []:
            messages.append(" ".join(record.getMessage().split()))


logging.getLogger("PIL").addHandler(_FirstMessageHandler(logging.WARNING))


@contextmanager
def capture_pillow_messages() -> Iterator[list[str]]:
    """Ignore warnings from Pillow within the block, and collect the first message that it logs in this thread.

    ``warnings.catch_warnings`` is not safe in threads: it restores the whole list of filters, so of two overlapping
    threads the later one restores what the earlier one had changed. Here the first thread to enter adds one filter, the
    last thread to leave removes it, and other filters are not touched.

    Yields
    ------
    list of str
        The first message, once there is one.
    """
    with _lock:
        _threads_inside.append(threading.get_ident())
        if not any(map(_is_our_filter, warnings.filters[:1])):
            warnings.filterwarnings("ignore", module=_MODULES.pattern)
    _captured.messages = messages = list[str]()
    try:
        yield messages
    finally:
        _captured.messages = None
        with _lock:
            _threads_inside.remove(threading.get_ident())
            if not _threads_inside:
                filters = cast(list[Any], warnings.filters)
                filters[:] = [entry for entry in filters if not _is_our_filter(entry)]


def _is_our_filter(entry: tuple[Any, ...]) -> bool:
    return entry == ("ignore", None, Warning, _MODULES, 0)
