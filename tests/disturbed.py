"""Run featx commands while files cannot be read or written, and report what was lost.

``disturbed.py WORK POINT…`` prints one JSON object per disturbance; ``test_unreadable.py`` checks them. Start it with
``LD_PRELOAD`` of the library that ``faulty_disk.c`` describes. A disturbance is a lock that another process really
holds, or an error that the library lets a call of the system return. A point is a moment of an extraction. Only the
backbone is replaced, so that a run takes a fraction of a second.

``disturbed.py WORK --photos FOLDER POINT…`` runs the real backbone on the photographs of a folder, with the first
disturbance of each point.
"""

import errno
import fnmatch
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from conftest import CLASSES, fill
from faults import FaultInjector, attempt, no_fault, replace_backbone

from featx.store import Store

EXTRACT = "extract photos -o at/p.h5 --size 32 --quiet"
OLDER = EXTRACT.replace("photos", "older")
"""An extraction of some of the photos, whose store is then updated."""
VIRTUAL = " --assemble virtual"
STOPPED_AT = 45
"""Number of the file operation at which an extraction is killed: some of its parts are finished then, but not all."""
STATES: dict[str, tuple[str, ...]] = {
    "new": (),
    "older": (OLDER,),
    "done": (EXTRACT,),
    "virtual": (OLDER + VIRTUAL,),
    "sharded": (EXTRACT + " --shard 1/2", EXTRACT + " --shard 2/2"),
    "stopped": (),
    "stopped update": (OLDER,),
}
HOLDERS = {
    "locked": "import fcntl; file = open(path, 'r+b'); fcntl.flock(file, fcntl.LOCK_EX)",
    "open in h5py": "import h5py; file = h5py.File(path, 'r+')",
}
"""Code of another process that locks a file until it is told to end."""
FORBIDDEN, FAILING = f"open:{errno.EACCES}", f"read:{errno.EIO}"


@dataclass(frozen=True)
class Point:
    """A moment of an extraction.

    Attributes
    ----------
    state : str
        What there is before the command, from `STATES`.
    files : str
        Pattern of the files that are disturbed, relative to the work folder. ``NEW`` stands for the name of a part that
        the command itself writes.
    faults : tuple of str
        The disturbances: a key of `HOLDERS`, or an operation and an error for `faulty_disk.c`.
    argv : str
        The command.
    """

    state: str
    files: str
    faults: tuple[str, ...]
    argv: str = EXTRACT


POINTS = {
    "listing": Point("new", "photos/red", ("list:EACCES", "list:EIO")),
    "listing of an update": Point("done", "photos/red", ("list:EACCES", "list:EIO"),
                                  EXTRACT + " --missing-images drop"),
    "image": Point("new", "photos/red/0.png", ("open:EACCES", "read:EIO")),
    "image of an update": Point("done", "photos/red/0.png", ("open:EACCES", "read:EIO")),
    "image of a strict update": Point("done", "photos/red/0.png", ("open:EACCES", "read:EIO"), EXTRACT + " --strict"),
    "image of a finished part": Point("stopped", "photos/blue/0.png", ("open:EACCES", "read:EIO")),
    "run.h5": Point("stopped", "at/p.h5.parts/run.h5", ("locked", "open in h5py", "open:EACCES", "read:EIO")),
    "job.json": Point("sharded", "at/p.h5.parts/job.json", ("open:EACCES", "read:EIO"), "assemble at/p.h5"),
    "lock file": Point("stopped", "at/p.h5.parts/lock", ("locked", "open:EACCES", "open:EIO")),
    "part that is read": Point("stopped", "at/p.h5.parts/*.part.h5",
                               ("locked", "open in h5py", "open:EACCES", "read:EIO", "open:ESTALE", "open:EMFILE")),
    "part that is read by assemble": Point("sharded", "at/p.h5.parts/*.part.h5",
                                           ("locked", "open:EACCES", "read:EIO"), "assemble at/p.h5"),
    "part that is written": Point("stopped", "at/p.h5.parts/.*.part.h5.*.tmp",
                                  ("open:EACCES", "write:EIO", "write:ENOSPC", "sync:EIO")),
    "part that is renamed": Point("stopped", "at/p.h5.parts/NEW", ("rename:EPERM", "rename:EIO")),
    "existing store": Point("older", "at/p.h5", ("locked", "open in h5py", "open:EACCES", "read:EIO", "open:ESTALE")),
    "existing store of a stopped run": Point("stopped update", "at/p.h5", ("locked", "open:EACCES", "read:EIO")),
    "store that is assembled": Point("stopped", "at/p.h5.parts/NEW", ("lock:EAGAIN", "open:EACCES", "read:EIO")),
    "store that is written": Point("older", "at/p.h5.parts/.p.h5.*.tmp", ("write:EIO", "write:ENOSPC", "open:EACCES")),
    "store that is replaced": Point("older", "at/p.h5", ("rename:EPERM", "rename:EBUSY")),
    "store that is overwritten": Point("older", "at/p.h5", ("locked", "open in h5py"), EXTRACT + " --overwrite"),
    "part of a virtual store": Point("virtual", "at/p.h5.rows/*.part.h5", ("locked", "open:EACCES", "read:EIO"),
                                     EXTRACT + VIRTUAL),
}  # fmt: skip
POINTS = {name.replace(" ", "-"): point for name, point in POINTS.items()}


def digests(folder: Path) -> dict[str, str]:
    """Hash all files below a folder, except lock files and temporary files."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.suffix not in ("", ".lock", ".tmp")]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def results(folder: Path) -> dict[str, object]:
    """Hash all files below a folder. Of a virtual store, return the rows: HDF5 leaves random bytes in such a file."""
    found: dict[str, object] = dict(digests(folder))
    if (folder / "p.h5.rows").exists():
        with Store(folder / "p.h5") as store:
            found["p.h5"] = [store.paths, store.digests, store.read(store.spec.widths).tobytes(), store.failures]
    return found


@contextmanager
def held(path: Path, code: str) -> Iterator[None]:
    """Let another process lock a file, and end it as a person would close a program."""
    program = f"import sys; path = sys.argv[1]; {code}; print('held', flush=True); sys.stdin.read(); file.close()"
    command = [sys.executable, "-c", program, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "held\n"
        yield
        holder.stdin.close()
        assert holder.wait() == 0


def link_photos(source: Path, target: Path) -> None:
    """Link the photographs of a folder into class folders, with the names that `POINTS` expects."""
    for number, path in enumerate(sorted(source.rglob("*.jpg"))):
        folder = target / CLASSES[number % len(CLASSES)]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number // len(CLASSES)}.png").symlink_to(path.resolve())


class Disturber:
    """Runs the points in a work folder."""

    def __init__(self, work: Path, photos: Path | None = None) -> None:
        self.work, self.at, self.log = work, work / "at", work / "log"
        if photos:
            link_photos(photos, work / "photos")
        else:
            fill(work / "photos")
            replace_backbone()
        shutil.copytree(work / "photos", work / "older", symlinks=True)
        for path in sorted((work / "older").rglob("*.png"))[::2]:
            path.unlink()
        os.chdir(work)
        # Children inherit what is imported here. Nothing is computed here, because threads do not survive a fork.
        for command in ("extract", "assemble"):
            import_module(f"featx.cli.{command}")
        import_module("featx.extraction").assemble_shards  # noqa: B018 - attributes of packages are imported when used

    def attempt(self, line: str, inject: Callable[[], object] = no_fault) -> dict:
        """Run a command. Paths below ``at`` are absolute, because `FaultInjector` compares them so."""
        words = [str(self.work / word) if word.startswith("at/") else word for word in line.split()]
        return attempt(words, self.log, inject)

    def run(self, line: str) -> None:
        """Run a command without a disturbance, and expect that it succeeds."""
        done = self.attempt(line)
        assert done["code"] == 0, done["output"]

    def restore(self, state: str) -> None:
        """Bring the folder ``at`` into a state."""
        saved = self.work / f"state-{state.replace(' ', '-')}"
        if not saved.exists():
            shutil.rmtree(self.at, ignore_errors=True)
            self.at.mkdir()
            for line in STATES[state]:
                self.run(line)
            if state.startswith("stopped"):
                killed = self.attempt(EXTRACT, lambda: FaultInjector(self.at, "SIGKILL", STOPPED_AT))
                assert killed["code"] == -9, killed
                finished = list(self.at.glob("*.parts/*.part.h5"))
                assert finished
            shutil.copytree(self.at, saved)
        shutil.rmtree(self.at, ignore_errors=True)
        shutil.copytree(saved, self.at)

    def new_part(self, state: str) -> str:
        """Return the name of a part that the extraction writes, and that is not there in a state."""
        finished = {path.name for path in self.at.glob("*.parts/*.part.h5")}
        if not (self.work / "all-parts").exists():
            rename = f"rename:{errno.EIO}:1:{self.at}/p.h5"
            failed = self.attempt(EXTRACT, lambda: os.environ.update(FAULTY_DISK=rename))
            assert failed["code"] == 1, failed
            (self.work / "all-parts").write_text("\n".join(path.name for path in self.at.glob("*.parts/*.part.h5")))
            self.restore(state)
        return min(set((self.work / "all-parts").read_text().split()) - finished)

    def disturb(self, name: str, most: int | None = None) -> Iterator[dict]:
        """Run the command of a point with each of its first ``most`` disturbances, and then without."""
        point = POINTS[name]
        self.restore(point.state)
        self.run(point.argv)
        wanted = results(self.at)
        for fault in point.faults[:most]:
            self.restore(point.state)
            pattern = str(self.work / point.files)
            if "NEW" in point.files:
                pattern = pattern.replace("NEW", self.new_part(point.state))
            before = digests(self.at)
            hold, rule = nullcontext(), ""
            if fault in HOLDERS:
                victim = min(path for path in self.work.rglob("*") if fnmatch.fnmatch(str(path), pattern))
                hold = held(victim, HOLDERS[fault])
            else:
                operation, _, error = fault.partition(":")
                rule = f"{operation}:{getattr(errno, error)}:1:{pattern}"
            with hold:
                made = self.attempt(point.argv, lambda rule=rule: os.environ.update(FAULTY_DISK=rule))
            after = digests(self.at)
            lost = sorted(path for path, digest in before.items() if after.get(path) != digest)
            # A run that succeeds has put the parts into the store, and has removed them.
            lost = [] if made["code"] == 0 and results(self.at) == wanted else lost
            left = sorted(path.name for path in self.at.rglob(".*.tmp"))
            again = self.attempt(point.argv)
            yield {
                "fault": fault, "code": made["code"], "output": made["output"], "lost": lost, "left": left,
                "new": sorted(after.keys() - before.keys()), "again": again["code"], "output_again": again["output"],
                "same": results(self.at) == wanted,
            }  # fmt: skip


def main(work: Path, *points: str) -> None:
    """Print the result of each disturbance."""
    photos = None
    if points and points[0] == "--photos":
        photos, points = Path(points[1]), points[2:]
    disturber = Disturber(work, photos)
    for point in points or POINTS:
        for result in disturber.disturb(point, 1 if photos else None):
            print(json.dumps({"point": point, **result}), flush=True)  # noqa: T201


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
