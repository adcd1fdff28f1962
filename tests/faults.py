"""Run a featx command many times, each time with a fault at a later file operation, and report the results.

``faults.py SCENARIO WORK FAULT[:STEP]…`` prints one JSON object per attempt; ``test_faults.py`` checks them.

A fault is a signal, or an error of a file operation. It happens in a forked child just before the child's k-th
operation on a file below ``WORK/at``. Files, signals, exit codes and the disk of ``full`` are real. Only the backbone
is replaced, so that an attempt takes a fraction of a second.
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
REPORT = 9
"""File descriptor on which a child reports the operation that failed."""
PAGE = 4096


class FaultInjector:
    """An audit hook that counts file operations below a folder and injects a fault before the k-th."""

    def __init__(self, folder: Path, fault: str, k: int) -> None:
        self.folder, self.fault, self.k, self.count, self.active = str(folder), fault, k, 0, False
        sync = os.fsync

        def fsync(descriptor: int) -> None:
            self("os.fsync", (Path(f"/proc/self/fd/{descriptor}").readlink(),))
            sync(descriptor)

        os.fsync = fsync  # Python has no audit event for it
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
            self.inject(event, str(args[0]), first=not self.active)

    def inject(self, event: str, path: str, *, first: bool) -> None:
        """Send the signal, or raise the error.

        Signals and EIO happen once. A disk that is full, read-only or slow stays so; files can be removed from a full
        disk.
        """
        self.active = True
        if first:
            os.write(REPORT, f"{event} {Path(path).name}".encode())
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


def jumping_clock() -> None:
    """Let the clock jump back and forth by days."""
    now, jumps = time.time, itertools.cycle((0, 9e5, -9e5))
    time.time = lambda: now() + next(jumps)


class FakeEngine(BatchedEngine):
    """An engine whose features are multiples of the mean of an image."""

    def __init__(self, spec: object) -> None:
        super().__init__(spec, 4)

    def _forward(self, images: np.ndarray) -> dict[str, np.ndarray]:
        mean = images.astype(np.float32).mean((1, 2, 3))[:, np.newaxis]
        return {name: mean * np.arange(1, width + 1, dtype=np.float32) for name, width in self.spec.widths.items()}

    def _out_of_memory(self, error: RuntimeError) -> bool:
        return False


def replace_backbone() -> None:
    """Let extractions run without a backbone, with four rows per part."""
    streaming.PART_ROWS = 4
    backbone = SimpleNamespace(name="oxford", digest="0" * 64, preprocessing="oxford", source="")
    featx.extraction.extraction_run.load_backbone = lambda *_: backbone
    featx.extraction.local_executor.make_engine = lambda _backbone, spec, *_: FakeEngine(spec)


def no_fault() -> None:
    """Inject nothing."""


def attempt(argv: list[str], log: Path, inject: Callable[[], object] = no_fault) -> dict:
    """Run a command in a forked child, after ``inject`` was called there."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 1)
            os.dup2(1, 2)
            os.dup2(writing, REPORT)
            inject()
            code = run(argv)
        except BaseException:
            traceback.print_exc()
            code = 99
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    os.close(writing)
    _, status = os.waitpid(child, 0)
    operation = os.read(reading, 500).decode()
    os.close(reading)
    return {"operation": operation, "code": os.waitstatus_to_exitcode(status), "output": log.read_text()}


def run(argv: list[str]) -> int:
    """Run a command, and return its exit code."""
    try:
        main(argv, prog_name="featx")
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


@dataclass(frozen=True)
class Scenario:
    """A command that writes below ``at/``, and the commands that prepare its input from 24 images."""

    argv: str
    outputs: tuple[str, ...]
    before: tuple[str, ...] = ()


PACKAGES = {"extract": "extraction", "select": "curation", "merge": "curation", "fit": "models"}
"""Package that has the function of a command."""
STORE = "extract photos -o a.h5 --size 32 --quiet"
RED = "extract photos/red -o b.h5 --size 32 --quiet"
SCENARIOS = {
    "extract": Scenario("extract photos -o at/p.h5 --size 32", ("p.h5",)),
    "select": Scenario("select a.h5 -o at/s.h5 --path-glob red/*", ("s.h5",), (STORE,)),
    "merge": Scenario("merge a.h5 b.h5 -o at/m.h5", ("m.h5",), (STORE, RED)),
    "fit": Scenario("fit a.h5 -o at/m.featx --C 1 --folds 2 --blocks 1", ("m.featx",), (STORE,)),
}


def digests(folder: Path, names: tuple[str, ...]) -> dict[str, str]:
    """Hash those outputs that exist."""
    found = [folder / name for name in names if (folder / name).exists()]
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in found}


class Trial:
    """Runs a scenario in a folder."""

    def __init__(self, scenario: Scenario, work: Path) -> None:
        self.at, self.log, self.scenario = work / "at", work / "log", scenario
        fill(work / "photos")
        os.chdir(work)
        # Children inherit what is imported here. Nothing is computed here, because threads do not survive a fork.
        for command in {scenario.argv.split()[0], *(each.split()[0] for each in scenario.before)}:
            import_module(f"featx.cli.{command}")
            getattr(import_module(f"featx.{PACKAGES[command]}"), command)
        replace_backbone()
        for command in scenario.before:
            assert attempt(command.split(), self.log)["code"] == 0, self.log.read_text()
        self.argv = [str(work / each) if each.startswith("at/") else each for each in scenario.argv.split()]
        self.at.mkdir()
        assert attempt(self.argv, self.log)["code"] == 0, self.log.read_text()
        self.wanted = digests(self.at, scenario.outputs)

    def attempts(self, fault: str, step: int) -> Iterator[dict]:
        """Inject the fault at later and later operations, until a run succeeds; repeat each run without a fault."""
        for k in itertools.count(1, step):
            shutil.rmtree(self.at)
            self.at.mkdir()
            if fault in ("clock", "slow") and k > 1:
                return
            if fault == "clock":
                made = attempt(self.argv, self.log, jumping_clock)
            elif fault == "full":
                with disk(self.at, k * PAGE):
                    made = self.check(attempt(self.argv, self.log))
                    subprocess.run(["mount", "-o", "remount,size=64m", self.at], check=True)
                    again = self.run_again()
                if made["code"] == 0:
                    return
                yield {"fault": fault, "k": k, **made, **again}
                continue
            else:
                made = attempt(self.argv, self.log, lambda k=k: FaultInjector(self.at, fault, k))
                if not made["operation"]:
                    return
            yield {"fault": fault, "k": k, **self.check(made), **self.run_again()}

    def check(self, made: dict) -> dict:
        """Tell whether each output is complete or absent, and list the other files."""
        whole = digests(self.at, self.scenario.outputs).items() <= self.wanted.items()
        return {**made, "whole": whole, "left": self.other_files()}

    def run_again(self) -> dict:
        """Run the command without a fault, and tell whether the outputs are as if there had been none."""
        existing = digests(self.at, self.scenario.outputs)
        # Extractions update a complete output; the other commands need leave to replace it.
        extra = ["--overwrite"] if existing and self.argv[0] in ("select", "merge", "fit") else []
        again = attempt([*self.argv, *extra], self.log)
        same = digests(self.at, self.scenario.outputs) == self.wanted
        return {"again": again["code"], "same": same, "beside": self.other_files(), "output_again": again["output"]}

    def other_files(self) -> list[str]:
        """List the files that are not outputs; a temporary file without its random name."""
        names = (path.name for path in self.at.iterdir() if path.name not in self.scenario.outputs)
        return sorted("temporary" if name.endswith(".tmp") else name for name in names)


@contextmanager
def disk(at: Path, size: int) -> Iterator[None]:
    """Mount a disk of ``size`` bytes, in memory."""
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
