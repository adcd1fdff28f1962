"""Run featx on a disk with the faults of a network disk, and compare the results with those of a local disk.

``network_disk.py WORK RULES…`` prints, for each disk, a JSON list of the commands whose results differ. Start it with
``LD_PRELOAD`` of the library that ``faulty_disk.c`` describes. RULES are those of a disk; AT stands for its folder.
"""

import json
import os
import shutil
import sys
from pathlib import Path

from disturbed import EXTRACT, STOPPED_AT, VIRTUAL, Disturber, results
from faults import FaultInjector

COMMANDS = {
    "whole": (EXTRACT,),
    "shards": (EXTRACT + " --shard 1/2", EXTRACT + " --shard 2/2", "assemble at/p.h5"),
    "virtual": (EXTRACT + VIRTUAL,),
}


class Disks:
    """Runs each command on several disks; on those other than the local disk, also resumes a run that was killed."""

    def __init__(self, work: Path) -> None:
        self._disturber = Disturber(work)
        self._wanted = {name: self._run(name, "") for name in COMMANDS}

    def compare(self, rules: str) -> list[str]:
        """Return the names of the commands whose results differ from those of a local disk."""
        return [name for name, wanted in self._wanted.items() if self._run(name, rules) != wanted]

    def _run(self, name: str, rules: str) -> dict[str, object]:
        at = self._disturber.at

        def disk() -> None:
            os.environ["FAULTY_DISK"] = rules.replace("AT", str(at))

        def kill() -> None:
            disk()
            FaultInjector(at, "SIGKILL", STOPPED_AT)

        shutil.rmtree(at, ignore_errors=True)
        at.mkdir()
        if rules and name == "whole":
            killed = self._disturber.attempt(EXTRACT, kill)
            assert killed["code"] == -9, killed
            assert list(at.glob("*.parts/*.part.h5"))
        for line in COMMANDS[name]:
            done = self._disturber.attempt(line, disk)
            assert done["code"] == 0, done
            assert "arning" not in done["output"], done
        beside = {path.name for path in at.iterdir()} - {"p.h5", "p.h5.rows"}
        assert not beside, beside
        return results(at)


if __name__ == "__main__":
    disks = Disks(Path(sys.argv[1]))
    for each in sys.argv[2:]:
        print(json.dumps(disks.compare(each)), flush=True)  # noqa: T201
