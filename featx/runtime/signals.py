"""Handle the signals that ask a process to stop: Ctrl-C, and the SIGTERM of schedulers."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stopped(BaseException):
    """The exception for a signal that asks the process to stop. ``number`` is the signal.

    It is a ``BaseException``, like ``KeyboardInterrupt``, so that no ``except Exception`` catches it.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@contextmanager
def raise_on_signal() -> Iterator[None]:
    """Raise `Stopped` on the first signal, so that files and locks are cleaned up. A second one kills the process."""

    def stop(number: int, _frame: FrameType | None) -> None:
        for each in SIGNALS:
            signal.signal(each, signal.SIG_DFL)
        raise Stopped(number)

    # A signal that the parent process ignores stays ignored: for example, Ctrl-C for a job in the background.
    with _handling(stop, [each for each in SIGNALS if signal.getsignal(each) != signal.SIG_IGN]):
        yield


@contextmanager
def defer_signals() -> Iterator[None]:
    """Hold back signals until the block ends, then raise the first one again.

    This is needed around C libraries that call Python functions. An exception in such a function would crash them.
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
    """Install a handler within the block.

    In other threads than the main thread, do nothing, because Python runs handlers only in the main thread.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)
