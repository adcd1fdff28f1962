"""Drills: what kills and full disks leave of extractions and fits; each claim is one sub-command.

    python benchmarks/drills.py kills FLOWERS17 WORK

FLOWERS17 holds ``jpg/`` and ``splits.csv``; WORK is for what is written. ``full_disk`` mounts disks of its own, as
root. Prints what came of it, and ends with exit code 1 if anything was lost.
"""

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openvino  # noqa: F401  children do not import it again
from reporting import run_claim, say

import featx.extraction.extraction_run
from featx.cli import main
from featx.engines.streaming import PART_ROWS
from featx.runtime import progress_bar

FAST = ["--size", "64", "--blocks", "1", "--decode", "scaled", "--workers", "2"]


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    command = [sys.executable, "-m", "featx", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def members(session: int) -> list[str]:
    """Names of the processes of a session."""
    found = []
    for file in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            name, _, rest = file.read_text().rpartition(")")
            if int(rest.split()[3]) == session:
                found.append(name)
    return found


def begin(arguments: list[object], ledger: Path) -> int:
    """Fork a featx command that adds a dot to the ledger for each image that it computes; its process and session."""
    child = os.fork()
    if child:
        return child
    try:
        os.setsid()
        dots = os.open(ledger, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

        def counted(*args: Any, **options: Any) -> Any:
            bar = progress_bar(*args, **options)
            bar.update = lambda count: os.write(dots, b"." * count)
            return bar

        featx.extraction.extraction_run.progress_bar = counted
        main([str(argument) for argument in arguments], prog_name="featx")
    except SystemExit as end:
        os._exit(int(end.code or 0))
    except BaseException:
        traceback.print_exc()
    os._exit(70)


def ended(child: int, within: float | None = None) -> bool:
    """Wait for a child, at most so many seconds; whether it has ended, which is an error unless it ended well."""
    limit = time.monotonic() + (within or 0)
    while True:
        number, status = os.waitpid(child, 0 if within is None else os.WNOHANG)
        if number:
            assert status == 0, f"exit code {os.waitstatus_to_exitcode(status)}"
            return True
        if time.monotonic() > limit:
            return False
        time.sleep(0.002)


def kills(flowers: Path, work: Path, count: int = 200) -> None:
    """SIGKILL at random instants of an extraction, gone on with each time, and begun again whenever it is done."""
    ledger, whole, killed = work / "ledger", work / "whole.h5", work / "at" / "killed.h5"
    shutil.rmtree(killed.parent, ignore_errors=True)
    killed.parent.mkdir()
    for left in (ledger, whole):
        left.unlink(missing_ok=True)
    command = ["extract", flowers / "splits.csv", "--root", flowers / "jpg", *FAST, "--quiet", "-o"]
    began = time.monotonic()
    ended(begin([*command, whole], ledger))
    seconds, images = time.monotonic() - began, ledger.stat().st_size
    ledger.unlink()
    rng, done, finished, wrong, orphans = random.Random(0), 0, 0, 0, 0
    began = time.monotonic()

    def again() -> float:
        """Parts' worth of images that were computed more than once, so far: not those of the extraction in hand."""
        kept = sum(1 for _ in killed.parent.glob("*.parts/*.part.h5")) * PART_ROWS
        return (ledger.stat().st_size - finished * images - kept) / PART_ROWS if ledger.exists() else 0.0

    def told() -> str:
        return (f"{done} kills, {finished} extractions of {images} images in {time.monotonic() - began:.0f} s: {wrong} "
                f"stores differ from an undisturbed one or have files beside; {orphans} processes outlived a kill; "
                f"{again():.1f} parts were computed again, {again() / max(1, done):.2f} a kill")  # fmt: skip

    while done < count or (killed.parent / "killed.h5.parts").exists():
        child = begin([*command, killed], ledger)
        if ended(child, rng.uniform(0, seconds) if done < count else None):
            finished += 1
            wrong += killed.read_bytes() != whole.read_bytes() or len(list(killed.parent.iterdir())) > 1
            killed.unlink()
        else:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            done += 1
            if done % 10 == 0:
                say(told())
        orphans += len(members(child))
    say(told())
    sys.exit(bool(wrong or orphans or again() > done))


@contextlib.contextmanager
def disk(folder: Path) -> Iterator[Path]:
    """A disk in memory, to be resized by `resize`."""
    folder.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256m", "tmpfs", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


def resize(folder: Path, size: int) -> None:
    """Give the disk so many bytes."""
    subprocess.run(["mount", "-o", f"remount,size={size}", folder], check=True)


def full_disk(flowers: Path, work: Path, points: int = 10) -> None:
    """A disk full at so many points of an extraction and of a fit; then it has room, and the command goes on."""
    source = ["extract", flowers / "splits.csv", "--root", flowers / "jpg", *FAST]
    store, lost = work / "store.h5", 0
    run(*source, "--overwrite", "-o", store)
    fit = ["fit", store, "--split-column", "split_0", "--C", "1", "--folds", "2"]
    with disk(work / "disk") as folder:
        for command, name in ((source, "p.h5"), (fit, "m.featx")):
            target = folder / name
            assert run(*command, "-o", target).returncode == 0
            wanted = target.read_bytes()
            # An extraction needs room for its parts beside the store that is made of them.
            most = int(len(wanted) * (1.8 if name == "p.h5" else 1))
            target.unlink()
            for point in range(points):
                resize(folder, 4096 * max(1, most * (2 * point + 1) // (2 * points) // 4096))
                ran = run(*command, "-o", target)
                stopped = ran.returncode == 1 and "Traceback" not in ran.stderr and not target.exists()
                resize(folder, 1 << 28)
                again = run(*command, "-o", target)
                same = again.returncode == 0 and target.read_bytes() == wanted and list(folder.iterdir()) == [target]
                lost += not (stopped and same)
                say(f"{command[0]}, full at {(2 * point + 1) * 50 // points} %: exit code {ran.returncode}, "
                    f"{ran.stderr.strip().splitlines()[-1:]}; again: {'identical' if same else 'DIFFERS'}")  # fmt: skip
                target.unlink(missing_ok=True)
    sys.exit(bool(lost))


CLAIMS = {"kills": kills, "full_disk": full_disk}

if __name__ == "__main__":
    run_claim(CLAIMS)
