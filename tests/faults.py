"""Run a featx command again and again, each time with one fault, some file operations further on, and report what
became of it: ``faults.py SCENARIO WORK FAULT[:STEP]…`` prints one JSON object an attempt, and ``test_faults.py`` says
what must hold.

A fault strikes a forked child just before its k-th operation on a file below ``WORK/at``: a signal, or an error of
that operation. Files, signals, exit codes and the disk of ``full`` are real; the backbone of an extraction is a stand-in,
so that an attempt takes a fraction of a second.
"""

import errno
import hashlib
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from conftest import fill

import featx.extraction.extraction_run
import featx.extraction.local_executor
from featx.cli.group import main
from featx.engines import streaming
from featx.engines.batching import BatchedEngine

WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
SIGNALS = {name: getattr(signal, name) for name in ("SIGKILL", "SIGINT", "SIGTERM")}
REMOVALS = ("os.remove", "os.rmdir")
STRUCK = 9
"""The descriptor on which a child says that it has begun, and what was struck."""
PAGE = 4096


class Striking:
    """An audit hook that counts file operations below a folder and strikes before the k-th."""

    def __init__(self, folder: Path, fault: str, k: int) -> None:
        self.folder, self.fault, self.k, self.count, self.struck = str(folder), fault, k, 0, False
        sync = os.fsync

        def fsync(descriptor: int) -> None:
            self("os.fsync", (Path(f"/proc/self/fd/{descriptor}").readlink(),))
            sync(descriptor)

        os.fsync = fsync  # the one of them that Python does not audit
        sys.addaudithook(self)

    def __call__(self, event: str, args: tuple[object, ...]) -> None:
        if event not in ("os.fsync", "open", "os.rename", "os.mkdir", *REMOVALS):
            return
        if event == "open" and not (isinstance(args[2], int) and args[2] & WRITES):
            return
        if not str(args[0]).startswith(self.folder):
            return
        self.count += 1
        if self.count >= self.k:
            self.strike(event, str(args[0]), first=not self.struck)

    def strike(self, event: str, path: str, *, first: bool) -> None:
        """A signal and EIO come once; a full disk still removes; a read-only one, and a slow one, stay so."""
        self.struck = True
        if first:
            os.write(STRUCK, f"{event} {Path(path).name}".encode())
        if self.fault in SIGNALS and first:
            os.kill(os.getpid(), SIGNALS[self.fault])
        elif self.fault == "slow" and event == "os.fsync":
            time.sleep(0.03)
        elif self.fault == "memory" and first:
            raise MemoryError
        elif (
            (self.fault == "EIO" and first)
            or (self.fault == "ENOSPC" and event not in REMOVALS)
            or (self.fault == "EROFS" and event != "os.fsync")
        ):
            number = getattr(errno, self.fault)
            raise OSError(number, os.strerror(number), path)


def jumping() -> None:
    """A clock that goes back and forth by days."""
    now, jumps = time.time, itertools.cycle((0, 9e5, -9e5))
    time.time = lambda: now() + next(jumps)


class StandIn(BatchedEngine):
    """Features that are multiples of a picture's mean."""

    def __init__(self, spec: object) -> None:
        super().__init__(spec, 4)

    def _forward(self, images: np.ndarray) -> dict[str, np.ndarray]:
        mean = images.astype(np.float32).mean((1, 2, 3))[:, np.newaxis]
        return {name: mean * np.arange(1, width + 1, dtype=np.float32) for name, width in self.spec.widths.items()}

    def _out_of_memory(self, error: RuntimeError) -> bool:
        return False


def stand_in() -> None:
    """Extraction without a backbone, four rows a part."""
    streaming.PART_ROWS = 4
    backbone = SimpleNamespace(name="oxford", digest="0" * 64, preprocessing="oxford", source="")
    featx.extraction.extraction_run.load_backbone = lambda *_: backbone
    featx.extraction.local_executor.make_engine = lambda _backbone, spec, *_: StandIn(spec)


def attempt(argv: list[str], log: Path, hurt: Callable[[], object] = int) -> dict:
    """Run a command in a forked child that is first hurt."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 1)
            os.dup2(1, 2)
            os.dup2(writing, STRUCK)
            hurt()
            code = run(argv)
        except BaseException:
            traceback.print_exc()
            code = 99
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    os.close(writing)
    _, status = os.waitpid(child, 0)
    struck = os.read(reading, 500).decode()
    os.close(reading)
    return {"struck": struck, "code": os.waitstatus_to_exitcode(status), "said": log.read_text()}


def run(argv: list[str]) -> int:
    """The command's exit code."""
    try:
        main(argv, prog_name="featx")
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


@dataclass(frozen=True)
class Scenario:
    """A command whose output goes below ``at/``, and the commands that make what it takes, from 24 pictures."""

    argv: str
    outputs: tuple[str, ...]
    before: tuple[str, ...] = ()


STORE = "extract photos -o a.h5 --size 32 --quiet"
RED = "extract photos/red -o b.h5 --size 32 --quiet"
SCENARIOS = {
    "extract": Scenario("extract photos -o at/p.h5 --size 32", ("p.h5",)),
    "select": Scenario("select a.h5 -o at/s.h5 --path-glob red/*", ("s.h5",), (STORE,)),
    "merge": Scenario("merge a.h5 b.h5 -o at/m.h5", ("m.h5",), (STORE, RED)),
    "fit": Scenario("fit a.h5 -o at/m.featx --C 1 --folds 2 --blocks 1", ("m.featx",), (STORE,)),
}


def digests(folder: Path, names: tuple[str, ...]) -> dict[str, str]:
    """What there is of the outputs, by content."""
    found = [folder / name for name in names if (folder / name).exists()]
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in found}


class Trial:
    """A scenario at work in a folder."""

    def __init__(self, scenario: Scenario, work: Path) -> None:
        self.at, self.log, self.scenario = work / "at", work / "log", scenario
        fill(work / "photos")
        os.chdir(work)
        # What children import is imported once, here; nothing is computed here, as threads do not survive a fork.
        for command in {scenario.argv.split()[0], *(each.split()[0] for each in scenario.before)}:
            for module in (f"featx.cli.{command}", f"featx.{command}"):
                import_module(module)
        stand_in()
        for command in scenario.before:
            assert attempt(command.split(), self.log)["code"] == 0, self.log.read_text()
        self.argv = [str(work / each) if each.startswith("at/") else each for each in scenario.argv.split()]
        self.at.mkdir()
        assert attempt(self.argv, self.log)["code"] == 0, self.log.read_text()
        self.wanted = digests(self.at, scenario.outputs)

    def attempts(self, fault: str, step: int) -> Iterator[dict]:
        """Strike further and further on, until a run gets through; after each, the same command without a fault."""
        for k in itertools.count(1, step):
            shutil.rmtree(self.at)
            self.at.mkdir()
            if fault in ("clock", "slow") and k > 1:
                return
            if fault == "clock":
                made = attempt(self.argv, self.log, jumping)
            elif fault == "full":
                with disk(self.at, k * PAGE):
                    made = self.judged(attempt(self.argv, self.log))
                    subprocess.run(["mount", "-o", "remount,size=64m", self.at], check=True)
                    again = self.again()
                if made["code"] == 0:
                    return
                yield {"fault": fault, "k": k, **made, **again}
                continue
            else:
                made = attempt(self.argv, self.log, lambda k=k: Striking(self.at, fault, k))
                if not made["struck"]:
                    return
            yield {"fault": fault, "k": k, **self.judged(made), **self.again()}

    def judged(self, made: dict) -> dict:
        """What an attempt left: whether each output is whole or not there, and what lies beside."""
        whole = digests(self.at, self.scenario.outputs).items() <= self.wanted.items()
        return {**made, "whole": whole, "left": self.beside()}

    def again(self) -> dict:
        """What the same command without a fault makes of it, and what then lies beside."""
        there = digests(self.at, self.scenario.outputs)
        # What is complete is not replaced unasked, but brought up to date by an extraction.
        extra = ["--overwrite"] if there and self.argv[0] in ("select", "merge", "fit") else []
        again = attempt([*self.argv, *extra], self.log)
        same = digests(self.at, self.scenario.outputs) == self.wanted
        return {"again": again["code"], "same": same, "beside": self.beside(), "then": again["said"]}

    def beside(self) -> list[str]:
        """What lies beside the outputs; a temporary file without its random part."""
        names = (path.name for path in self.at.iterdir() if path.name not in self.scenario.outputs)
        return sorted("temporary" if name.endswith(".tmp") else name for name in names)


@contextmanager
def disk(at: Path, size: int) -> Iterator[None]:
    """A disk of so many bytes, in memory."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", at], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", at], check=True)


if __name__ == "__main__":
    trial = Trial(SCENARIOS[sys.argv[1]], Path(sys.argv[2]))
    for each in sys.argv[3:]:
        fault, _, step = each.partition(":")
        for result in trial.attempts(fault, int(step or 1)):
            print(json.dumps(result), flush=True)  # noqa: T201
