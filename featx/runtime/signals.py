"""Signals that ask a process to stop: Ctrl-C, and the SIGTERM of schedulers."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stopped(BaseException):
    """A signal asked to stop: ``number``. Like ``KeyboardInterrupt``, but nothing between takes it for its own."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@contextmanager
def raise_on_signal() -> Iterator[None]:
    """Within, the first signal raises `Stopped`, so that all is tidied up; a second ends the process on the spot."""

    def stop(number: int, _frame: FrameType | None) -> None:
        for each in SIGNALS:
            signal.signal(each, signal.SIG_DFL)
        raise Stopped(number)

    # What is ignored stays so, such as Ctrl-C for a job in the background.
    with _handling(stop, [each for each in SIGNALS if signal.getsignal(each) != signal.SIG_IGN]):
        yield


@contextmanager
def defer_signals() -> Iterator[None]:
    """Within, signals that would raise an exception wait; the first is raised at the end.

    For calls of a C library that calls back, and does not survive an exception there.
    """
    waiting: list[int] = []

    def wait(number: int, _frame: FrameType | None) -> None:
        waiting.append(number)

    with _handling(wait, [each for each in SIGNALS if callable(signal.getsignal(each))]):
        yield
    if waiting:
        signal.raise_signal(waiting[0])


@contextmanager
def _handling(handler: Callable[[int, FrameType | None], None], numbers: list[signal.Signals]) -> Iterator[None]:
    """Handle signals so, and then as before; in the main thread, the only one in which handlers run."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)
