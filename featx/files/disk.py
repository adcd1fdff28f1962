"""Check a disk before a long computation: can files be written there, and is there enough space?"""

import secrets
import shutil
from contextlib import suppress
from pathlib import Path

from featx.errors import FeatxError
from featx.files.atomic import sync

PROBE_BYTES = 4096


def check_writable(folder: Path, error: type[FeatxError]) -> None:
    """Write a small file in a folder as HDF5 files are written: change its start, sync it and rename it.

    Raises
    ------
    FeatxError
        ``error``, if any of these steps fails. The message names the folder and the reason.
    """
    probe = folder / f".featx-probe.{secrets.token_hex(4)}.tmp"
    target = probe.with_suffix(".renamed.tmp")
    try:
        target.touch()
        with probe.open("wb") as file:
            file.write(bytes(PROBE_BYTES))
            file.seek(0)
            file.write(b"featx")
        sync(probe)
        probe.replace(target)
        target.unlink()
    except OSError as problem:
        raise error(
            f"{folder} cannot be written: {problem.strerror or problem}; featx must be able to write, change, sync and "
            "rename files there: solve this problem, or choose another --output"
        ) from problem
    finally:
        for path in (probe, target):
            with suppress(OSError):
                path.unlink(missing_ok=True)


def free_bytes(folder: Path) -> int | None:
    """Return how many bytes are free on the disk of a folder; None if the disk does not say.

    Some network and cluster disks report 0 although files can be written. So 0 stands for an unknown number: call
    `check_writable` first, which fails on a disk that is full.
    """
    try:
        usage = shutil.disk_usage(folder)
    except OSError:
        return None
    return usage.free if usage.total > 0 and usage.free > 0 else None
