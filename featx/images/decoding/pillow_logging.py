"""Hide Pillow's warnings and collect its log messages while threads decode images."""

import logging
import re
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

# Some of Pillow's deprecation warnings name the module that calls Pillow, so the pattern includes featx.images.
_MODULES = re.compile(r"(PIL|featx\.images)\.")
_lock = threading.Lock()
_threads_inside: list[int] = []
_captured = threading.local()


class _FirstMessageHandler(logging.Handler):
    """A log handler that keeps the first message of each thread within `capture_pillow_messages`.

    Other handlers still get every message. Without any handler, ``logging`` would write the messages to standard error.
    """

    def emit(self, record: logging.LogRecord) -> None:
        messages = getattr(_captured, "messages", None)
        if messages == []:
            messages.append(" ".join(record.getMessage().split()))


logging.getLogger("PIL").addHandler(_FirstMessageHandler(logging.WARNING))


@contextmanager
def capture_pillow_messages() -> Iterator[list[str]]:
    """Ignore warnings from Pillow within a ``with`` block, and collect its first log message in this thread.

    ``warnings.catch_warnings`` is not safe in threads. It saves and restores the whole list of filters, so one thread
    can restore the filters of another thread. Here the first thread that enters adds one filter, and the last thread
    that leaves removes it. Other filters are not touched.

    Yields
    ------
    list of str
        The first message. The list is empty until Pillow logs a message.
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
