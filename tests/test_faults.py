"""Faults at every point: what is written is there whole or not at all, says what is wrong, and can be gone on with."""

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
from featx.heads.parallel import among_processes
from featx.runtime.signals import Stopped, raise_on_signal

STOPPED = "Stopped. What is finished is kept: run the same command again to go on."
SAID = {"ENOSPC": "No space left on device", "full": "No space left on device", "EIO": "Input/output error",
        "EROFS": "Read-only file system", "memory": "memory ran out"}  # fmt: skip
CODES = {"SIGKILL": {-9}, "SIGINT": {130}, "SIGTERM": {143}, "slow": {0}, "clock": {0}}
FAULTS = {
    # Odd steps, since what is done for a part comes again and again.
    "extract": "SIGKILL:5 SIGINT:13 SIGTERM:17 ENOSPC:13 EIO:11 EROFS:19 memory:23 slow clock",
    "select": "SIGKILL SIGINT:3 EROFS:2",
    "merge": "SIGTERM:3 EIO:2",
    "fit": "SIGKILL SIGTERM EIO EROFS",
}
CAN_MOUNT = sys.platform == "linux" and os.geteuid() == 0


def tried(scenario: str, work: Path, *faults: str) -> list[dict]:
    command = [sys.executable, "-W", "ignore", str(Path(__file__).with_name("faults.py")), scenario, str(work), *faults]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    return [json.loads(line) for line in ran.stdout.splitlines()]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="forks, and asks /proc which file is synced")
@pytest.mark.parametrize("scenario", FAULTS)
def test_a_fault_at_any_file_operation_loses_nothing(scenario, tmp_path):
    results = tried(scenario, tmp_path, *FAULTS[scenario].split())
    assert {each.split(":")[0] for each in FAULTS[scenario].split()} == {result["fault"] for result in results}
    for result in results:
        fault = result["fault"]
        assert result["code"] in CODES.get(fault, {0, 1}), result
        assert result["whole"], result
        assert (result["again"], result["same"]) == (0, True), result
        assert "Traceback" not in result["said"], result
        if result["code"] == 1:
            assert "Error: " in result["said"], result
            assert SAID[fault] in result["said"], result
        if result["code"] > 128:
            assert STOPPED in result["said"], result
        if fault != "SIGKILL" and fault != "EROFS":
            assert "temporary" not in result["left"], result
        # What a killed process leaves beside a single file, nobody can tell from one that is being written.
        allowed = {"temporary"} if fault in ("SIGKILL", "EROFS") and scenario == "fit" else set()
        assert set(result["beside"]) <= allowed, result


@pytest.mark.skipif(not CAN_MOUNT, reason="mounts a disk")
def test_a_real_disk_that_is_full_is_gone_on_with_once_it_has_room(tmp_path):
    results = tried("extract", tmp_path, "full:6")
    assert len(results) >= 5
    for result in results:
        assert (result["code"], result["whole"], result["again"], result["same"]) == (1, True, 0, True), result
        assert result["beside"] == [], result
        assert "is free" in result["said"] or "are free" in result["said"] or SAID["full"] in result["said"], result


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_waits_for_hdf5_which_does_not_survive_it(number, tmp_path):
    def write():
        with raise_on_signal(), create_hdf5(tmp_path / "a.h5") as file:
            signal.raise_signal(number)
            file["values"] = range(10_000)

    with pytest.raises(Stopped):
        write()
    with h5py.File(tmp_path / "a.h5") as file:
        assert file["values"][-1] == 9_999
    assert len(list(tmp_path.iterdir())) == 1


def test_ctrl_c_in_a_notebook_waits_for_hdf5_too(tmp_path):
    with pytest.raises(KeyboardInterrupt), create_hdf5(tmp_path / "a.h5"):
        signal.raise_signal(signal.SIGINT)
    assert (tmp_path / "a.h5").exists()


def test_a_second_signal_ends_the_process_on_the_spot():
    code = """
import signal
from featx.signals import stopping
with stopping():
    try:
        signal.raise_signal(signal.SIGINT)
    finally:
        signal.raise_signal(signal.SIGTERM)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -signal.SIGTERM


def test_what_is_ignored_stays_ignored():
    code = """
import signal
signal.signal(signal.SIGINT, signal.SIG_IGN)
from featx.signals import stopping
with stopping():
    signal.raise_signal(signal.SIGINT)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_signals_are_handled_as_before_afterwards():
    before = [signal.getsignal(number) for number in SIGNALS.values() if number != signal.SIGKILL]
    with raise_on_signal():
        pass
    assert [signal.getsignal(number) for number in SIGNALS.values() if number != signal.SIGKILL] == before


def test_a_process_that_dies_is_an_error_with_a_remedy():
    with pytest.raises(EngineError, match=r"one of 2 processes was killed.*fewer processes"), \
            among_processes(2):  # fmt: skip
        Parallel(2)(delayed(os._exit)(1) for _ in range(2))


@pytest.mark.parametrize(("number", "raised"), [(22, False), (95, False), (5, True)])
def test_a_network_disk_that_syncs_no_folders_is_written_all_the_same(number, raised, tmp_path, monkeypatch):
    """EINVAL and ENOTSUP say that there is no such thing; EIO says that it failed."""
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


@pytest.mark.skipif(sys.platform == "win32", reason="has no such modes")
@pytest.mark.parametrize("umask", [0o022, 0o002])
def test_whoever_may_read_a_new_file_may_read_what_is_written(umask, tmp_path):
    before = os.umask(umask)
    try:
        with atomic_write(tmp_path / "backbone.safetensors") as temporary:
            save_file({"a": np.zeros(3, np.float32)}, temporary)
    finally:
        os.umask(before)
    assert (tmp_path / "backbone.safetensors").stat().st_mode & 0o777 == 0o666 & ~umask


@pytest.mark.skipif(sys.platform == "win32", reason="has no fcntl")
def test_what_is_synced_can_be_written(tmp_path, monkeypatch):
    """As Windows demands, which says EBADF of what was opened to read."""
    import fcntl

    synced = []
    monkeypatch.setattr(os, "fsync", lambda number: synced.append(fcntl.fcntl(number, fcntl.F_GETFL) & os.O_ACCMODE))
    with atomic_write(tmp_path / "file") as temporary:
        temporary.write_text("whole")
    assert synced == [os.O_RDWR, os.O_RDONLY]  # the file and its folder


def test_errors_of_featx_keep_their_words(tmp_path):
    with pytest.raises(StoreError, match=r"^its own words$"), atomic_write(tmp_path / "a", ModelError):
        raise StoreError("its own words")
