"""Check that extractions and fits survive kills, full disks and unreadable files. Each sub-command checks one claim.

    python benchmarks/drills.py kills FLOWERS17 WORK

FLOWERS17 contains ``jpg/`` and ``splits.csv``; files are written to WORK. Run ``full_disk`` as root, because it
mounts its own disks. The exit code is 1 if anything was lost.
"""

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openvino  # noqa: F401  forked children then need not import it
from reporting import run_claim, say

import featx.extraction.extraction_run
from featx.cli import main
from featx.engines.streaming import PART_ROWS
from featx.runtime import progress_bar

FAST = ["--size", "64", "--blocks", "1", "--decode", "scaled", "--workers", "2"]


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a featx command and wait for its end."""
    command = [sys.executable, "-m", "featx", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def members(session: int) -> list[str]:
    """Return the names of the processes of a session."""
    found = []
    for file in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            name, _, rest = file.read_text().rpartition(")")
            if int(rest.split()[3]) == session:
                found.append(name)
    return found


def begin(arguments: list[object], counter: Path) -> int:
    """Start a featx command in a forked process with its own session, and return its process id.

    For each image that it computes, the command appends one byte to the file ``counter``.
    """
    child = os.fork()
    if child:
        return child
    try:
        os.setsid()
        dots = os.open(counter, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

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
    """Wait at most ``within`` seconds for a child process, and return whether it has ended. Raise if it failed."""
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
    """Kill an extraction at random moments, resume it after each kill, and start a new one whenever it is finished."""
    counter, reference, killed = work / "counter", work / "reference.h5", work / "at" / "killed.h5"
    shutil.rmtree(killed.parent, ignore_errors=True)
    killed.parent.mkdir()
    for left in (counter, reference):
        left.unlink(missing_ok=True)
    command = ["extract", flowers / "splits.csv", "--root", flowers / "jpg", *FAST, "--quiet", "-o"]
    began = time.monotonic()
    ended(begin([*command, reference], counter))
    seconds, images = time.monotonic() - began, counter.stat().st_size
    counter.unlink()
    rng, done, finished, wrong, orphans = random.Random(0), 0, 0, 0, 0
    began = time.monotonic()

    def repeated() -> float:
        """Return how many parts were computed more than once, without those of the running extraction."""
        kept = sum(1 for _ in killed.parent.glob("*.parts/*.part.h5")) * PART_ROWS
        return (counter.stat().st_size - finished * images - kept) / PART_ROWS if counter.exists() else 0.0

    def summary() -> str:
        return (f"{done} kills, {finished} extractions of {images} images in {time.monotonic() - began:.0f} s: {wrong} "
                f"stores differ from the reference or left other files; {orphans} processes outlived a kill; "
                f"{repeated():.1f} parts were computed again, {repeated() / max(1, done):.2f} per kill")  # fmt: skip

    while done < count or (killed.parent / "killed.h5.parts").exists():
        child = begin([*command, killed], counter)
        if ended(child, rng.uniform(0, seconds) if done < count else None):
            finished += 1
            wrong += killed.read_bytes() != reference.read_bytes() or len(list(killed.parent.iterdir())) > 1
            killed.unlink()
        else:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            done += 1
            if done % 10 == 0:
                say(summary())
        orphans += len(members(child))
    say(summary())
    sys.exit(bool(wrong or orphans or repeated() > done))


@contextlib.contextmanager
def disk(folder: Path) -> Iterator[Path]:
    """Mount a disk in memory. `resize` can change its size."""
    folder.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256m", "tmpfs", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


def resize(folder: Path, size: int) -> None:
    """Set the size of the disk in bytes."""
    subprocess.run(["mount", "-o", f"remount,size={size}", folder], check=True)


@contextlib.contextmanager
def fill_up(folder: Path, size: int) -> Iterator[None]:
    """Make the disk full as soon as ``size`` bytes are used."""
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.002):
            if (used := shutil.disk_usage(folder).used) >= size:
                # A disk cannot become smaller than what is used on it, and that may just have grown.
                with contextlib.suppress(subprocess.CalledProcessError):
                    resize(folder, used)
                    return

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()


def full_disk(flowers: Path, work: Path, points: int = 10) -> None:
    """Make the disk full at ``points`` moments of an extraction and of a fit. Each time, make room and resume."""
    source = ["extract", flowers / "splits.csv", "--root", flowers / "jpg", *FAST]
    store, lost = work / "store.h5", 0
    run(*source, "--overwrite", "-o", store)
    fit = ["fit", store, "--split-column", "split_0", "--C", "1", "--folds", "2"]
    with disk(work / "disk") as folder:
        for command, name in ((source, "p.h5"), (fit, "m.featx")):
            target = folder / name
            assert run(*command, "-o", target).returncode == 0
            wanted = target.read_bytes()
            # An extraction needs room for its parts and for the store that is assembled from them.
            most = int(len(wanted) * (1.8 if name == "p.h5" else 1))
            target.unlink()
            for point in range(points):
                size = 4096 * max(1, most * (2 * point + 1) // (2 * points) // 4096)
                # An extraction that begins on a disk that is too small stops at once. So its disk gets smaller later.
                filling = contextlib.nullcontext() if name == "m.featx" else fill_up(folder, size)
                if name == "m.featx":
                    resize(folder, size)
                with filling:
                    ran = run(*command, "-o", target)
                stopped = ran.returncode == 1 and "Traceback" not in ran.stderr and not target.exists()
                # Near the end, the extraction may be done before the disk is full.
                stopped |= ran.returncode == 0 and name == "p.h5" and target.read_bytes() == wanted
                resize(folder, 1 << 28)
                again = run(*command, "-o", target)
                same = again.returncode == 0 and target.read_bytes() == wanted and list(folder.iterdir()) == [target]
                lost += not (stopped and same)
                say(f"{command[0]}, disk full at {(2 * point + 1) * 50 // points} %: exit code {ran.returncode}, "
                    f"{ran.stderr.strip().splitlines()[-1:]}; again: {'identical' if same else 'DIFFERS'}")  # fmt: skip
                target.unlink(missing_ok=True)
    sys.exit(bool(lost))


def unreadable(flowers: Path, work: Path) -> None:
    """Lock files, forbid them or let them fail at each point of an extraction. Each time, undo that and run again."""
    tests, library = Path(__file__).resolve().parents[1] / "tests", work / "faulty_disk.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", library, tests / "faulty_disk.c", "-ldl"], check=True)
    shutil.rmtree(work / "unreadable", ignore_errors=True)
    (work / "unreadable").mkdir()
    command = [sys.executable, "-W", "ignore", tests / "disturbed.py", work / "unreadable", "--photos", flowers / "jpg"]
    environment = {**os.environ, "LD_PRELOAD": str(library)}
    points, lost = 0, 0
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout or ():
            result = json.loads(line)
            whole = not result["lost"] and result["again"] == 0 and result["same"]
            points, lost = points + 1, lost + (not whole)
            said, again = result["output"].strip().splitlines()[-1:], "identical" if whole else "DIFFERS"
            say(f"{result['point']}, {result['fault']}: exit code {result['code']}, {said}; again: {again}")
    say(f"{points} points of an extraction: {lost} lost something")
    sys.exit(bool(lost or process.returncode or points < 10))


CLAIMS = {"kills": kills, "full_disk": full_disk, "unreadable": unreadable}

if __name__ == "__main__":
    run_claim(CLAIMS)
