"""After a fault at any file operation, files are complete or absent, messages say why, and the command resumes."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from faults import SIGNALS
from joblib import Parallel, delayed
from safetensors.numpy import save_file

from featx.errors import EngineError, ModelError, StoreError
from featx.files.atomic import atomic_write
from featx.files.hdf5_writing import create_hdf5
from featx.heads.parallel import raise_if_process_killed
from featx.runtime.signals import Stopped, raise_on_signal

pytestmark = pytest.mark.slow

STOPPED = "Stopped. Finished work is kept: run the same command again to resume."
MESSAGES = {"ENOSPC": "No space left on device", "full": "No space left on device", "EIO": "Input/output error",
        "EROFS": "Read-only file system", "memory": "memory ran out"}  # fmt: skip
CODES = {"SIGKILL": {-9}, "SIGINT": {130}, "SIGTERM": {143}, "slow": {0}, "clock": {0}}
FAULTS = {
    # Odd steps, because the operations for one part repeat for the next.
    "extract": "SIGKILL:5 SIGINT:13 SIGTERM:17 ENOSPC:13 EIO:11 EROFS:19 memory:23 slow clock",
    "select": "SIGKILL SIGINT:3 EROFS:2",
    "merge": "SIGTERM:3 EIO:2",
    "fit": "SIGKILL SIGTERM EIO EROFS",
}
CAN_MOUNT = sys.platform == "linux" and os.geteuid() == 0


def run_with_faults(scenario: str, work: Path, *faults: str) -> list[dict]:
    command = [sys.executable, "-W", "ignore", str(Path(__file__).with_name("faults.py")), scenario, str(work), *faults]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    return [json.loads(line) for line in ran.stdout.splitlines()]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs fork, and /proc to find which file is synced")
@pytest.mark.parametrize("scenario", FAULTS)
def test_a_fault_at_any_file_operation_loses_nothing(scenario, tmp_path):
    results = run_with_faults(scenario, tmp_path, *FAULTS[scenario].split())
    assert {each.split(":")[0] for each in FAULTS[scenario].split()} == {result["fault"] for result in results}
    for result in results:
        fault = result["fault"]
        assert result["code"] in CODES.get(fault, {0, 1}), result
        assert result["whole"], result
        assert (result["again"], result["same"]) == (0, True), result
        assert "Traceback" not in result["output"], result
        if result["code"] == 1:
            assert "Error: " in result["output"], result
            assert MESSAGES[fault] in result["output"], result
        if result["code"] > 128:
            assert STOPPED in result["output"], result
        if fault != "SIGKILL" and fault != "EROFS":
            assert "temporary" not in result["left"], result
        # The temporary file of a killed process cannot be told from one that another process is writing.
        allowed = {"temporary"} if fault in ("SIGKILL", "EROFS") and scenario == "fit" else set()
        assert set(result["beside"]) <= allowed, result


@pytest.mark.skipif(not CAN_MOUNT, reason="needs the right to mount a disk")
def test_a_run_on_a_full_disk_resumes_once_there_is_space(tmp_path):
    results = run_with_faults("extract", tmp_path, "full:6")
    assert len(results) >= 5
    for result in results:
        assert (result["code"], result["whole"], result["again"], result["same"]) == (1, True, 0, True), result
        assert result["beside"] == [], result
        if "MB for its parts and itself, but its disk has only" in result["output"]:
            assert result["left"] == [], result  # said before the first part is written
        else:
            said = "MB free; finished parts are kept" in result["output"] or MESSAGES["full"] in result["output"]
            assert said, result


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_waits_until_hdf5_has_written(number, tmp_path):
    def write():
        with raise_on_signal(), create_hdf5(tmp_path / "a.h5") as file:
            signal.raise_signal(number)
            file["values"] = range(10_000)

    with pytest.raises(Stopped):
        write()
    with h5py.File(tmp_path / "a.h5") as file:
        assert file["values"][-1] == 9_999
    assert len(list(tmp_path.iterdir())) == 1


def test_ctrl_c_in_a_notebook_waits_until_hdf5_has_written(tmp_path):
    with pytest.raises(KeyboardInterrupt), create_hdf5(tmp_path / "a.h5"):
        signal.raise_signal(signal.SIGINT)
    assert (tmp_path / "a.h5").exists()


def test_a_second_signal_kills_the_process():
    code = """
import signal
from featx.runtime.signals import raise_on_signal
with raise_on_signal():
    try:
        signal.raise_signal(signal.SIGINT)
    finally:
        signal.raise_signal(signal.SIGTERM)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -signal.SIGTERM


def test_an_ignored_signal_stays_ignored():
    code = """
import signal
signal.signal(signal.SIGINT, signal.SIG_IGN)
from featx.runtime.signals import raise_on_signal
with raise_on_signal():
    signal.raise_signal(signal.SIGINT)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_signal_handlers_are_restored():
    before = [signal.getsignal(number) for number in SIGNALS.values() if number != signal.SIGKILL]
    with raise_on_signal():
        pass
    assert [signal.getsignal(number) for number in SIGNALS.values() if number != signal.SIGKILL] == before


def test_a_worker_process_that_dies_is_an_error_with_a_remedy():
    with pytest.raises(EngineError, match=r"one of 2 processes was killed.*fewer processes"), \
            raise_if_process_killed(2):  # fmt: skip
        Parallel(2)(delayed(os._exit)(1) for _ in range(2))


@pytest.mark.parametrize(("number", "raised"), [(22, False), (95, False), (5, True)])
def test_a_disk_that_cannot_sync_folders_can_be_written(number, raised, tmp_path, monkeypatch):
    """EINVAL and ENOTSUP mean that the disk cannot sync folders, EIO that syncing failed."""
    sync = os.fsync

    def fsync(descriptor):
        if Path(f"/proc/self/fd/{descriptor}").resolve().is_dir():
            raise OSError(number, os.strerror(number))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)

    def write():
        with atomic_write(tmp_path / "a", ModelError) as temporary:
            temporary.write_text("whole")

    if raised:
        with pytest.raises(ModelError, match="a cannot be written: Input/output error"):
            write()
    else:
        write()
    assert (tmp_path / "a").read_text() == "whole"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such permissions")
@pytest.mark.parametrize("umask", [0o022, 0o002])
def test_a_written_file_has_the_permissions_of_a_new_file(umask, tmp_path):
    before = os.umask(umask)
    try:
        with atomic_write(tmp_path / "backbone.safetensors") as temporary:
            save_file({"a": np.zeros(3, np.float32)}, temporary)
    finally:
        os.umask(before)
    assert (tmp_path / "backbone.safetensors").stat().st_mode & 0o777 == 0o666 & ~umask


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no fcntl")
def test_synced_files_are_open_for_writing(tmp_path, monkeypatch):
    """Windows requires that: it raises EBADF for a file that was opened for reading."""
    import fcntl

    synced = []
    monkeypatch.setattr(os, "fsync", lambda number: synced.append(fcntl.fcntl(number, fcntl.F_GETFL) & os.O_ACCMODE))
    with atomic_write(tmp_path / "file") as temporary:
        temporary.write_text("whole")
    assert synced == [os.O_RDWR, os.O_RDONLY]  # the file and its folder


def test_errors_of_featx_keep_their_message(tmp_path):
    with pytest.raises(StoreError, match=r"^the original message$"), atomic_write(tmp_path / "a", ModelError):
        raise StoreError("the original message")
