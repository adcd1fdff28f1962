"""Pass inputs to a reader in a child process, and continue with the next input after a crash or hang."""

import multiprocessing
import os
import resource
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from broken_images import LIBTIFF_LINE

from featx.errors import FeatxError

MEMORY = 4 << 30
"""Bytes that a reader may allocate beyond those before its first input."""
LONGEST_MESSAGE = 100_000
Read = Callable[[Path], object]
SPAWN = multiprocessing.get_context("spawn")


@dataclass
class Result:
    """Number of inputs of a reader, how many of them it refused, and the findings by number of the input."""

    reader: str
    inputs: int = 0
    refused: int = 0
    seconds: float = 0.0
    findings: dict[int, str] = field(default_factory=dict)

    def __str__(self) -> str:
        kinds = Counter(text.splitlines()[0][:100] for text in self.findings.values())
        found = "".join(f"\n  {count} × {text}" for text, count in kinds.most_common())
        return (f"{self.reader}: {self.inputs:,} inputs, {self.refused:,} refused, in {self.seconds:.0f} s; "
                f"{len(self.findings)} found{found}")  # fmt: skip


def attack(
    reader: str, first: int, count: int, timeout: float = 20.0, seconds: float = 1e9, read: Read | None = None
) -> Result:
    """Pass ``count`` inputs to a reader, starting with number ``first``, for at most ``seconds`` seconds.

    An input that takes longer than ``timeout`` seconds is a hang; its process is then killed. ``read`` replaces the
    reader's function.
    """
    with tempfile.TemporaryDirectory(prefix="featx-fuzz-", dir=_memory_folder()) as folder:
        return _attack(Path(folder), reader, first, count, timeout, seconds, read)


def _attack(
    folder: Path, reader: str, first: int, count: int, timeout: float, seconds: float, read: Read | None
) -> Result:
    result, began, last = Result(reader), time.monotonic(), first + count
    while first < last and time.monotonic() - began < seconds:
        at, ended = SPAWN.Value("q", -1, lock=False), began + seconds
        receiver, sender = SPAWN.Pipe(duplex=False)
        child = SPAWN.Process(
            target=_work, args=(folder, reader, first, last, ended - time.monotonic(), at, sender, read)
        )
        child.start()
        sender.close()
        done = all([_take(result, message) for message in _messages(receiver, child, at, timeout)][-1:] or [False])
        if done:
            result.inputs += at.value - first
            break
        if at.value < 0:
            child.kill()
            raise RuntimeError(f"the process for {reader} must come to its first input, got exit code {child.exitcode}")
        result.inputs += at.value - first + 1
        how = "hang: no end after {timeout:g} s" if child.exitcode is None else f"crash: exit code {child.exitcode}"
        result.findings[at.value] = how.format(timeout=timeout)
        child.kill()
        child.join()
        first = at.value + 1
    result.seconds = time.monotonic() - began
    return result


def _take(result: Result, message: tuple[int, str]) -> bool:
    """Record a child's message; return whether it was the last one."""
    number, text = message
    if number < 0:
        result.refused += -number - 1
        return True
    result.findings[number] = text
    return False


def _messages(receiver: Any, child: Any, at: Any, timeout: float) -> Iterator[tuple[int, str]]:
    """Iterate over a child's messages until it is done, dead or stuck."""
    last, since = None, time.monotonic()
    while True:
        if receiver.poll(0.2):
            try:
                message = receiver.recv()
            except EOFError:
                child.join(5)
                return
            yield message
            if message[0] < 0:
                child.join()
                return
        if at.value != last or last is None:
            last, since = at.value, time.monotonic()
        # Importing featx and making the valid files takes a while, longer on a busy machine.
        elif time.monotonic() - since > (timeout if last != -1 else timeout + 120):
            return


def _work(
    folder: Path, reader: str, first: int, last: int, seconds: float, at: Any, sender: Any, read: Read | None
) -> None:
    from fuzz.readers import READERS, make_input, seeds_of

    seeds_of(reader)
    read = read or READERS[reader].read
    _limit_memory()
    warnings.simplefilter("error")
    said = os.open(folder / "said", os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(said, stream)
    refused, heard, began = 0, 0, time.monotonic()
    for number in range(first, last):
        at.value = number
        if time.monotonic() - began > seconds:
            break
        data, suffix = make_input(reader, number)
        (folder / f"input{suffix}").write_bytes(data)
        if (text := _fault(read, folder / f"input{suffix}")) is None:
            refused += 1
        elif text:
            sender.send((number, text))
        if (size := os.fstat(said).st_size) > heard:
            printed = os.pread(said, size - heard, heard).decode(errors="replace")
            if not all(LIBTIFF_LINE.match(line) for line in printed.splitlines()):
                sender.send((number, f"printed {size - heard} bytes: {printed[:2000]}"))
            heard = size
    else:
        at.value = last
    sender.send((-refused - 1, ""))


def _fault(read: Read, path: Path) -> str | None:
    """Return what a reader did wrong, ``""`` if it accepted the input, None if it refused it."""
    try:
        read(path)
    except FeatxError as error:
        return f"a message of {len(str(error))} characters" if len(str(error)) > LONGEST_MESSAGE else None
    except BaseException as error:
        return "".join(traceback.format_exception_only(error)) + traceback.format_exc()
    return ""


def _memory_folder() -> str | None:
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


def _limit_memory() -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0]) if Path("/proc/self/statm").exists() else 0
    if pages:
        resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MEMORY,) * 2)
