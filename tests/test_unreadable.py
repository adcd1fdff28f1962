"""What cannot be read now is never taken for damaged: nothing is lost, and the message says what to do.

``disturbed.py`` lists the moments of an extraction at which files are locked, forbidden or fail.
"""

import errno
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import filelock
import h5py
import numpy as np
import pytest
from click.testing import CliRunner
from conftest import draw
from disturbed import HOLDERS, POINTS, held

from featx.backbones import cache, read_weights
from featx.cli.group import main
from featx.errors import (
    FileUnreadable,
    ImageError,
    ModelError,
    ModelUnreadable,
    StoreError,
    StoreLocked,
    StoreUnreadable,
    WeightsError,
    WeightsUnreadable,
)
from featx.extraction import AssemblyOptions, extract
from featx.files import (
    FileLock,
    ReadProblem,
    check_folder,
    check_writable,
    find_problem,
    free_bytes,
    open_untrusted,
    unreadable_error,
)
from featx.files.atomic import atomic_write
from featx.finetuning.activation_cache import ActivationCache
from featx.finetuning.training_log import TrainingLog
from featx.inspection import report
from featx.runtime import Compute
from featx.spec import ExtractSpec
from featx.store import Store, is_store

TESTS = Path(__file__).parent
LINUX = sys.platform.startswith("linux")
SAID = {
    "locked": "is locked by another program: close it, or set HDF5_USE_FILE_LOCKING=FALSE",
    "open in h5py": "is locked by another program: close it, or set HDF5_USE_FILE_LOCKING=FALSE",
    "EAGAIN": "is locked by another program: close it, or set HDF5_USE_FILE_LOCKING=FALSE",
    **{name: os.strerror(getattr(errno, name)) for name in ("EACCES", "EIO", "ENOSPC", "EPERM", "EBUSY", "ESTALE")},
    "EMFILE": "raise the limit with ulimit -n",
}
"""What the message says of each disturbance."""
WRONG = re.compile("damaged|cut short|not an HDF5|Traceback|[Rr]emove |--overwrite")
"""What no message may say of a file that cannot be read now."""
CODES = {"listing": 3, "image": 3, "image-of-an-update": 0, "image-of-a-finished-part": 0}
"""Exit codes of the points at which the run goes on; it stops with 1 at the others."""
EARLY = ("run.h5", "job.json", "lock-file", "part-that-is-read", "existing-store", "existing-store-of-a-stopped-run",
         "store-that-is-overwritten", "listing-of-an-update")  # fmt: skip
"""Points at which the run stops before anything is computed."""


@pytest.fixture(scope="session")
def faulty_disk(tmp_path_factory):
    """The library of ``faulty_disk.c``."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if not (LINUX and compiler):
        pytest.skip("needs Linux and a C compiler")
    library = tmp_path_factory.mktemp("library") / "faulty_disk.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, TESTS / "faulty_disk.c", "-ldl"], check=True)
    return library


def run_on(library, *command, **environment):
    """Run a command with the library of a disk that fails."""
    return subprocess.run(
        [sys.executable, "-W", "ignore", *map(str, command)], capture_output=True, text=True, check=False,
        env={**os.environ, "LD_PRELOAD": str(library), "PYTHONPATH": f"{TESTS}:{TESTS.parent}", **environment},
    )  # fmt: skip


@pytest.fixture(scope="module")
def disturbances(faulty_disk, tmp_path_factory):
    """The result of each disturbance, by point."""
    ran = run_on(faulty_disk, TESTS / "disturbed.py", tmp_path_factory.mktemp("disturbed"), *POINTS)
    assert ran.returncode == 0, ran.stderr
    results: dict[str, list[dict]] = {name: [] for name in POINTS}
    for line in ran.stdout.splitlines():
        result = json.loads(line)
        results[result["point"]].append(result)
    return results


@pytest.mark.slow
@pytest.mark.parametrize("point", POINTS)
def test_files_that_cannot_be_read_at_a_point_of_an_extraction_lose_nothing(point, disturbances):
    results = disturbances[point]
    assert [result["fault"] for result in results] == list(POINTS[point].faults)
    for result in results:
        assert result["code"] == CODES.get(point, 1), result
        assert result["lost"] == [], result
        assert (result["again"], result["same"]) == (0, True), result
        said = SAID[result["fault"].rpartition(":")[2]]
        if point == "lock-file" and result["fault"] == "locked":
            said = "is being written by another featx process"
        assert said in result["output"], result
        assert not WRONG.search(result["output"] + result["output_again"]), result
        if point in EARLY:
            assert result["new"] == [], result
        if point != "lock-file":
            assert result["left"] == [], result


NETWORK = {
    "no locks": "lock:{ENOLCK}:1:*",
    "locks not supported": "lock:{ENOTSUP}:1:*",
    "no flock": "lock:{ENOSYS}:1:*",
    "chmod refused": "chmod:{EPERM}:1:*",
    "chmod not supported": "chmod:{ENOTSUP}:1:*",
    "no fsync of folders": "sync:{EINVAL}:1:AT;sync:{EINVAL}:1:AT/*.parts",
    "fsync of folders forbidden": "sync:{EPERM}:1:AT;sync:{EPERM}:1:AT/*.parts",
    "no fsync": "sync:{ENOTSUP}:1:*",
    "0 bytes free": "space:0:1:*",
    "no hard links": "link:{EPERM}:1:*",
}
ALL = ("no locks", "chmod refused", "no fsync of folders", "0 bytes free", "no hard links")
NETWORK["all"] = ";".join(NETWORK[name] for name in ALL)


@pytest.fixture(scope="module")
def network_disks(faulty_disk, tmp_path_factory):
    """The commands whose results differ from those of a local disk, by disk."""
    numbers = {name: getattr(errno, name) for name in ("ENOLCK", "ENOTSUP", "ENOSYS", "EPERM", "EINVAL")}
    rules = [each.format(**numbers) for each in NETWORK.values()]
    ran = run_on(faulty_disk, TESTS / "network_disk.py", tmp_path_factory.mktemp("network"), *rules)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return dict(zip(NETWORK, map(json.loads, ran.stdout.splitlines()), strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("disk", NETWORK)
def test_a_network_disk_gives_the_bytes_that_a_local_disk_gives(disk, network_disks):
    """Whole extractions, one that is killed and resumed, shards and virtual stores."""
    assert network_disks[disk] == []


@pytest.mark.slow
def test_a_network_disk_without_locks_refuses_a_second_process(faulty_disk, tmp_path):
    path = tmp_path / "lock"
    code = (
        "import sys; from pathlib import Path; from featx.files import FileLock; lock = FileLock(Path(sys.argv[1])); "
        "lock.acquire(timeout=0); print('held', flush=True); sys.stdin.read()"
    )
    rule = f"lock:{errno.ENOLCK}:1:*"
    environment = {**os.environ, "LD_PRELOAD": str(faulty_disk), "FAULTY_DISK": rule, "PYTHONPATH": str(TESTS.parent)}
    command = [sys.executable, "-c", code, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment) as first:
        assert first.stdout.readline() == "held\n"
        second = run_on(faulty_disk, "-c", code, path, FAULTY_DISK=rule)
        assert "Timeout" in second.stderr
        assert Path(f"{path}.held").exists()
        first.kill()
    third = run_on(faulty_disk, "-c", code, path, FAULTY_DISK=rule)  # the first one was killed: its lock is void
    assert (third.returncode, third.stdout) == (0, "held\n"), third.stderr


def test_the_lock_of_a_disk_without_locks_says_how_to_remove_it(tmp_path, monkeypatch):
    fcntl = pytest.importorskip("fcntl")

    def flock(descriptor, operation):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    first, second = FileLock(tmp_path / "lock"), FileLock(tmp_path / "lock")
    with first:
        assert first.remedy == f"; if no such process runs any more, on any machine, remove {tmp_path / 'lock'}.held"
        with pytest.raises(filelock.Timeout):
            second.acquire(timeout=0)
    second.acquire(timeout=0)
    second.release()
    assert list(tmp_path.iterdir()) == []


def test_an_error_of_a_lock_is_raised(tmp_path, monkeypatch):
    fcntl = pytest.importorskip("fcntl")

    def flock(descriptor, operation):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(OSError, match="Input/output error"):
        FileLock(tmp_path / "lock").acquire()
    assert list(tmp_path.iterdir()) == []


# ------------------------------------------------------------------------------------------- stores that are locked

SPEC = ExtractSpec(size=32, blocks=(1,))


@pytest.fixture
def store(shared_store, tmp_path):
    """A copy of the shared store."""
    return Path(shutil.copy(shared_store, tmp_path / "photos.h5"))


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no flock")
@pytest.mark.parametrize("how", HOLDERS)
def test_a_locked_store_is_not_damaged(how, store):
    before = store.read_bytes()
    with held(store, HOLDERS[how]):
        with pytest.raises(StoreLocked, match=rf"photos\.h5 {SAID['locked']}$"):
            Store(store)
        assert is_store(store)
        for command in (["info", store], ["fit", store, "-o", store.with_suffix(".featx")]):
            result = CliRunner().invoke(main, [str(word) for word in command])
            assert result.exit_code == 1
            assert result.stderr == f"Error: {store} {SAID['locked']}\n"
    assert store.read_bytes() == before
    Store(store).close()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no flock")
def test_locked_weights_are_not_damaged(tmp_path):
    path = tmp_path / "vgg16.h5"
    with h5py.File(path, "w") as file:
        file["block1_conv1"] = 1
    with held(path, HOLDERS["locked"]), pytest.raises(WeightsUnreadable, match=rf"vgg16\.h5 {SAID['locked']}$"):
        read_weights(path)
    with pytest.raises(WeightsError, match="VGG16"):
        read_weights(path)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no flock")
def test_a_locked_store_can_be_read_without_locks_as_the_message_says(store, monkeypatch):
    with held(store, HOLDERS["locked"]):
        monkeypatch.setenv("HDF5_USE_FILE_LOCKING", "FALSE")
        code = "import sys; from featx import Store; print(Store(sys.argv[1]).n_images)"
        ran = subprocess.run([sys.executable, "-c", code, store], capture_output=True, text=True, check=False)
        assert (ran.returncode, ran.stdout) == (0, "36\n"), ran.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no flock")
@pytest.mark.parametrize("overwrite", [False, True])
def test_a_locked_store_is_refused_before_anything_is_computed(overwrite, store, shared_photos, monkeypatch):
    computed = []
    monkeypatch.setattr("featx.extraction.extraction_run._make_executor", lambda *_: computed.append(1))
    before = store.read_bytes()
    with held(store, HOLDERS["open in h5py"]), pytest.raises(StoreLocked, match=SAID["locked"]):
        extract(shared_photos, store, SPEC, overwrite=overwrite)
    assert computed == []
    assert store.read_bytes() == before
    assert list(store.parent.iterdir()) == [store]  # no folder of parts is left


def test_a_store_that_another_program_reads_can_be_replaced(shared_photos, oxford, tmp_path):
    extract(shared_photos, tmp_path / "a.h5", SPEC)
    wanted = (tmp_path / "a.h5").read_bytes()
    with held(tmp_path / "a.h5", "import h5py; file = h5py.File(path, 'r')"):
        extract(shared_photos, tmp_path / "a.h5", SPEC, overwrite=True)
    assert (tmp_path / "a.h5").read_bytes() == wanted


def test_a_store_that_was_not_closed_is_not_damaged(store):
    """A program that is killed while it has a store open for writing leaves a mark in the store."""
    code = (
        "import h5py, os, sys; file = h5py.File(sys.argv[1], 'r+'); file.attrs['note'] = 1; file.flush(); os._exit(0)"
    )
    subprocess.run([sys.executable, "-c", code, store], check=True)
    with pytest.raises(StoreLocked, match=r"photos\.h5 is marked as open for writing: .* with: h5clear --status"):
        Store(store)


def test_stores_beside_a_store_that_cannot_be_read_keep_their_parts(shared_photos, oxford, tmp_path):
    """The file that cannot be read may be a virtual store, which needs the parts."""
    virtual = AssemblyOptions(assemble="virtual")
    extract(shared_photos, tmp_path / "a.h5", SPEC, assembly=virtual)
    shutil.copy(tmp_path / "a.h5", tmp_path / "b.h5")
    parts = sorted((tmp_path / "a.h5.rows").iterdir())
    with held(tmp_path / "b.h5", HOLDERS["locked"]):
        extract(shared_photos, tmp_path / "a.h5", SPEC, assembly=AssemblyOptions(assemble="copy"), overwrite=True)
    assert sorted((tmp_path / "a.h5.rows").iterdir()) == parts
    with Store(tmp_path / "b.h5") as opened:
        assert np.isfinite(opened.read(["block1_avg"])).all()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no flock")
def test_a_part_of_a_virtual_store_that_is_locked_later_is_named(shared_photos, oxford, tmp_path):
    """HDF5 opens the parts when rows are read, and reports no error for those that it cannot open."""
    extract(shared_photos, tmp_path / "a.h5", SPEC, assembly=AssemblyOptions(assemble="virtual"))
    (part,) = (tmp_path / "a.h5.rows").iterdir()
    with Store(tmp_path / "a.h5") as opened, held(part, HOLDERS["locked"]):
        message = rf"block1_avg of .*a\.h5 has rows in a file that cannot be opened: {re.escape(str(part))} is locked"
        with pytest.raises(StoreLocked, match=message):
            opened.read(["block1_avg"])


# ---------------------------------------------------------------------------------------------- files without access


AS_ANOTHER_USER = """
import os, sys
{imports}
os.getuid() or os.setuid(65534)
for path in sys.argv[1:]:
    try:
        print({call})
    except Exception as error:
        print(type(error).__name__, error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such permissions")
@pytest.mark.parametrize(
    ("imports", "call", "names", "error"),
    [
        ("from featx.store import Store", "Store(path)", ["p.h5", "closed/p.h5"], "StoreUnreadable"),
        ("from featx.store import is_store", "is_store(path)", ["p.h5", "closed/p.h5"], "True"),
        ("from featx.models import load_model", "load_model(path)", ["m.featx", "closed/m.featx"], "ModelUnreadable"),
        (
            "from featx.backbones import read_weights", "read_weights(path)", ["w.safetensors", "closed/w.h5"],
            "WeightsUnreadable",
        ),
    ],
)  # fmt: skip
def test_files_without_permission_are_not_damaged(imports, call, names, error, tmp_path, shared_store):
    """With real permissions: if the test runs as root, whom they do not stop, it becomes another user first."""
    (tmp_path / "closed").mkdir()
    for name in names:
        shutil.copy(shared_store, tmp_path / name)
        (tmp_path / name).chmod(0)
    (tmp_path / "closed").chmod(0)
    tmp_path.chmod(0o755)
    # The other user may have no access to Python's modules: import them first.
    code = AS_ANOTHER_USER.format(imports=imports, call=call)
    warm = "featx.store.reader, featx.models.model_file, featx.backbones.readers.formats, h5py, safetensors.numpy"
    try:
        ran = subprocess.run(
            [sys.executable, "-c", f"import {warm}\n{code}", *names], capture_output=True, text=True, check=True,
            cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(TESTS.parent)},
        )  # fmt: skip
    finally:
        (tmp_path / "closed").chmod(0o700)
    if error == "True":
        assert ran.stdout == "True\nTrue\n"
        return
    expected = [f"{error} {name} cannot be read (Permission denied): allow it for this user" for name in names]
    assert ran.stdout.splitlines() == expected


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["open:EACCES", "open:EIO", "read:EIO", "open:ESTALE"])
def test_weights_in_the_cache_that_cannot_be_read_are_not_downloaded_again(fault, faulty_disk, oxford, tmp_path):
    file = tmp_path / "oxford.safetensors"
    shutil.copy(cache.cached_file("oxford"), file)
    before = file.stat()
    operation, _, name = fault.partition(":")
    code = (
        "import featx.backbones.loading as loading; loading.sources_of = lambda _: 1 / 0; "
        "print(loading.load_backbone('oxford').name)"
    )
    rule = f"{operation}:{getattr(errno, name)}:1:{file}"
    ran = run_on(faulty_disk, "-c", code, FEATX_CACHE=str(tmp_path), FAULTY_DISK=rule)
    last = ran.stderr.splitlines()[-1]
    assert last.startswith(f"featx.errors.WeightsUnreadable: {file} cannot be read ({SAID[name]}): "), ran.stderr
    assert last.endswith("or set FEATX_CACHE to another folder")
    assert (file.stat().st_mtime_ns, file.stat().st_ino) == (before.st_mtime_ns, before.st_ino)
    assert run_on(faulty_disk, "-c", code, FEATX_CACHE=str(tmp_path), FAULTY_DISK="").stdout == "oxford\n"


def test_features_of_images_that_cannot_be_read_now_are_kept(photos, oxford, tmp_path):
    names = sorted(str(path.relative_to(photos)) for path in photos.rglob("*.png"))
    extract(names, tmp_path / "a.h5", SPEC, root=photos)
    before = (tmp_path / "a.h5").read_bytes()
    (photos / "red" / "0.png").unlink()
    (photos / "red" / "0.png").symlink_to("0.png")
    reason = os.strerror(errno.ELOOP)
    report = extract(names, tmp_path / "a.h5", SPEC, root=photos)
    assert (report.unchecked, report.failures, report.rows) == ([("red/0.png", reason)], [], 24)
    assert (tmp_path / "a.h5").read_bytes() == before
    with pytest.raises(ImageError, match=rf"red/0\.png: {reason}"):
        extract(names, tmp_path / "a.h5", SPEC, root=photos, strict=True)
    draw(0, 99).save(photos / "red" / "1.png")  # another image has changed: only its features are replaced
    assert extract(names, tmp_path / "a.h5", SPEC, root=photos).extracted == 1
    with Store(tmp_path / "a.h5") as opened:
        assert opened.paths == names


def test_an_image_that_is_gone_is_a_failure(photos, oxford, tmp_path):
    names = sorted(str(path.relative_to(photos)) for path in photos.rglob("*.png"))
    extract(names, tmp_path / "a.h5", SPEC, root=photos)
    (photos / "red" / "0.png").unlink()
    report = extract(names, tmp_path / "a.h5", SPEC, root=photos)
    assert report.unchecked == []
    assert report.failures == [("red/0.png", "cannot be read: No such file or directory")]


def test_a_folder_that_cannot_be_listed_now_does_not_drop_its_rows(photos, oxford, tmp_path):
    extract(photos, tmp_path / "a.h5", SPEC)
    before = (tmp_path / "a.h5").read_bytes()
    shutil.move(photos / "red", tmp_path / "red")
    (photos / "red.jpg").symlink_to("red.jpg")  # a file of this name cannot be read either, but holds no rows
    for missing in ("drop", "error"):
        (photos / "red").symlink_to("red")
        message = r"red cannot be read: .*a\.h5 has 8 images of it: .* --missing-images keep"
        with pytest.raises(StoreUnreadable, match=message):
            extract(photos, tmp_path / "a.h5", SPEC, assembly=AssemblyOptions(missing_images=missing))
        (photos / "red").unlink()
        assert (tmp_path / "a.h5").read_bytes() == before


def test_a_cache_of_activations_that_cannot_be_read_now_is_not_replaced(tmp_path):
    spec = ExtractSpec(size=32, blocks=(4,))
    kept = ActivationCache(tmp_path, spec, 4)
    kept._index.symlink_to(kept._index.name)
    with pytest.raises(ModelUnreadable, match=r"\.index cannot be read \(Too many levels of symbolic links\)"):
        kept.fill(lambda _: 1 / 0, {"a.png": "0" * 64}, 1, tmp_path, Compute())
    assert kept._index.is_symlink()


def test_a_training_log_that_cannot_be_read_now_is_not_replaced(tmp_path):
    (tmp_path / "log.jsonl").symlink_to("log.jsonl")
    with pytest.raises(ModelUnreadable, match=r"log\.jsonl cannot be read \(Too many levels of symbolic links\)"):
        TrainingLog(tmp_path)


@pytest.mark.slow
def test_the_state_of_a_training_that_cannot_be_read_is_not_damaged(faulty_disk, tmp_path):
    code = (
        "import sys; from pathlib import Path; from types import SimpleNamespace; import torch; "
        "from featx.finetuning.stage import Stage; path = Path(sys.argv[1]); "
        "Stage._restore_state(SimpleNamespace(_path=path, device='cpu', name='backbone'))"
    )
    state = tmp_path / "backbone.pt"
    state.write_bytes(b"nonsense")
    ran = run_on(faulty_disk, "-c", code, state)
    assert f"ModelError: {state} is damaged (" in ran.stderr
    assert ran.stderr.endswith("; move it away to train the stage backbone from its start\n")
    for rule, reason in ((f"open:{errno.EACCES}", "Permission denied"), (f"read:{errno.EIO}", "Input/output error")):
        ran = run_on(faulty_disk, "-c", code, state, FAULTY_DISK=f"{rule}:1:{state}")
        assert f"ModelUnreadable: {state} cannot be read ({reason}): " in ran.stderr
    assert state.read_bytes() == b"nonsense"


def test_a_report_names_the_store_that_it_cannot_read(hostile_model, tmp_path):
    model = shutil.copy(hostile_model, tmp_path / "m.featx")
    store = shutil.copy(hostile_model.with_name("photos.h5"), tmp_path / "m.h5")
    with held(store, HOLDERS["locked"]), pytest.raises(ModelError, match=rf"fitted on; .*m\.h5 {SAID['locked']}$"):
        report(model, tmp_path / "m.html")


def test_an_error_of_a_file_ends_a_command_with_a_message(store, monkeypatch):
    def fail(*_, **__):
        raise PermissionError(errno.EACCES, "Permission denied", "/closed/photos")

    monkeypatch.setattr("featx.models.fit", fail)
    result = CliRunner().invoke(main, ["fit", str(store), "-o", str(store.with_name("m.featx"))])
    assert result.exit_code == 1
    assert result.stderr == "Error: /closed/photos cannot be used: Permission denied\n"


def test_an_output_that_cannot_be_read_is_not_replaced(store, monkeypatch, shared_store):
    """It may be a model."""

    def fail(path):
        raise ModelUnreadable(f"{path} cannot be read (Input/output error)")

    monkeypatch.setattr("featx.models.load_model", fail)
    output = store.with_name("page.html")
    output.write_text("old")
    result = CliRunner().invoke(main, ["report", str(store), "-o", str(output)])
    assert result.exit_code == 1
    assert f"--output {output} exists and cannot be read, so it may be a model: " in result.stderr
    assert output.read_text() == "old"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such permissions")
def test_images_and_shards_without_permission_are_not_damaged_or_missing(tmp_path):
    """With real permissions, as `test_files_without_permission_are_not_damaged`."""
    for folder in ("closed", "shards"):
        (tmp_path / folder).mkdir()
    draw(0, 1).save(tmp_path / "closed" / "a.png")
    draw(0, 2).save(tmp_path / "b.png")
    (tmp_path / "m.csv").write_text("path\nb.png\nclosed/a.png\n")
    for name in ("a.tar", "b.tar"):
        with tarfile.open(tmp_path / "shards" / name, "w") as file:
            file.add(tmp_path / "b.png", "x/b.png")
    (tmp_path / "shards" / "b.tar").chmod(0)
    (tmp_path / "closed").chmod(0)
    tmp_path.chmod(0o755)
    code = """
import os
from featx.images import list_images
list_images("m.csv").digest(0); list_images("shards")
os.getuid() or os.setuid(65534)
listing = list_images("m.csv")
try:
    listing.digest(1)
except OSError as error:
    print(listing.paths[1], error.strerror)
print(list_images("shards").failures)
"""
    try:
        ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path,
                             env={**os.environ, "PYTHONPATH": str(TESTS.parent)})  # fmt: skip
    finally:
        (tmp_path / "closed").chmod(0o700)
    assert ran.stdout == "closed/a.png Permission denied\n(('b.tar', 'cannot be read: Permission denied'),)\n"


# ------------------------------------------------------------------------------------------------- kinds of errors


def error_from(text, **attributes):
    made = RuntimeError(text)
    made.__dict__.update(attributes)
    return made


@pytest.mark.parametrize(
    ("error", "problem"),
    [
        (OSError(errno.EAGAIN, "Resource temporarily unavailable"), ReadProblem.LOCKED),
        (OSError(errno.EBUSY, "Device or resource busy"), ReadProblem.LOCKED),
        (error_from("Unable to open file (unable to lock file, errno = 11, error message = '…')"), ReadProblem.LOCKED),
        (error_from("Unable to open file (unable to lock file, errno = 13, error message = '…')"), ReadProblem.LOCKED),
        (error_from("Can't read (file is already open for write (may use <h5clear file> …))"), ReadProblem.LOCKED),
        (error_from("The process cannot access the file", winerror=32, errno=13), ReadProblem.LOCKED),
        (OSError(errno.EACCES, "Permission denied"), ReadProblem.FORBIDDEN),
        (OSError(errno.EPERM, "Operation not permitted"), ReadProblem.FORBIDDEN),
        (error_from("Permission denied (os error 13)"), ReadProblem.FORBIDDEN),
        (OSError(errno.EIO, "Input/output error"), ReadProblem.FAILING),
        (OSError(errno.ESTALE, "Stale file handle"), ReadProblem.FAILING),
        (OSError(errno.ETIMEDOUT, "Connection timed out"), ReadProblem.FAILING),
        (OSError(errno.EMFILE, "Too many open files"), ReadProblem.FAILING),
        (KeyError("Unable to open object (file read failed: errno = 5, error message = '…')"), ReadProblem.FAILING),
        (OSError(errno.ENOENT, "No such file or directory"), ReadProblem.GONE),
        (OSError("Unable to open file (truncated file: eof = 500, stored_eof = 2056)"), ReadProblem.DAMAGED),
        (OSError(errno.EINVAL, "Invalid argument"), ReadProblem.DAMAGED),
        (ValueError("its addresses do not have eight bytes"), ReadProblem.DAMAGED),
        (StoreError("rows must be stored with each filter once"), ReadProblem.DAMAGED),
    ],
)
def test_errors_tell_why_a_file_cannot_be_read(error, problem):
    assert find_problem(error) is problem
    wrapped = RuntimeError("cannot be parsed")
    wrapped.__cause__ = error
    if problem is not ReadProblem.LOCKED:
        assert find_problem(wrapped) is problem


@pytest.mark.parametrize(
    ("kind", "locked", "unreadable"),
    [
        (StoreError, StoreLocked, StoreUnreadable),
        (WeightsError, WeightsUnreadable, WeightsUnreadable),
        (ModelError, ModelUnreadable, ModelUnreadable),
    ],
)
def test_unreadable_files_have_their_own_errors(kind, locked, unreadable):
    assert type(unreadable_error("a", OSError(errno.EAGAIN, ""), kind)) is locked
    assert type(unreadable_error("a", OSError(errno.EACCES, ""), kind)) is unreadable
    assert type(unreadable_error("a", OSError(errno.EIO, ""), kind)) is unreadable
    assert unreadable_error("a", ValueError("wrong"), kind) is None
    assert issubclass(locked, FileUnreadable)


def test_a_cut_file_is_damaged_and_not_unreadable(store):
    store.write_bytes(store.read_bytes()[:-1000])
    with pytest.raises(OSError, match="truncated") as raised:
        open_untrusted(store, StoreError)
    assert not isinstance(raised.value, FileUnreadable)


# ------------------------------------------------------------------------------------------------------------ disks


def test_a_mode_that_cannot_be_set_is_no_failure(tmp_path, monkeypatch):
    def chmod(*_, **__):
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "chmod", chmod)
    with atomic_write(tmp_path / "a", ModelError) as temporary:
        temporary.write_text("whole")
    assert (tmp_path / "a").read_text() == "whole"


def test_0_bytes_free_are_unknown(tmp_path, monkeypatch, shared_photos, oxford):
    usage = shutil.disk_usage(tmp_path)
    assert free_bytes(tmp_path) == pytest.approx(usage.free, rel=0.1)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=0))
    assert free_bytes(tmp_path) is None
    extract(shared_photos, tmp_path / "a.h5", SPEC)
    assert (tmp_path / "a.h5").exists()


def test_a_disk_that_is_too_small_is_said_before_anything_is_computed(tmp_path, monkeypatch, shared_photos, oxford):
    computed = []
    monkeypatch.setattr("featx.extraction.extraction_run._make_executor", lambda *_: computed.append(1))
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=10_000))
    with pytest.raises(
        StoreError,
        match=r"a\.h5 needs at least 0\.02 MB for its parts and itself, .* 0\.01 MB free; --assemble virtual",
    ):
        extract(shared_photos, tmp_path / "a.h5", SPEC)
    assert computed == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("function", "number"), [("write", errno.EROFS), ("replace", errno.ENOTSUP), ("fsync", errno.EIO)]
)
def test_a_folder_that_cannot_be_written_is_said_before_anything_is_computed(
    function, number, tmp_path, monkeypatch, shared_photos, oxford
):
    """Disks that are read-only, that cannot rename files, as some mounted buckets, or that fail."""

    def fail(*_):
        raise OSError(number, os.strerror(number))

    if function == "write":
        monkeypatch.setattr(Path, "open", fail)
    else:
        monkeypatch.setattr(os, function, fail)
    with pytest.raises(StoreError, match=rf"cannot be written: {os.strerror(number)}; featx must be able to write, "):
        check_writable(tmp_path, StoreError)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("rule", [f"rename:{errno.ENOTSUP}:1:*", f"write:{errno.EROFS}:1:*.tmp"])
def test_an_extraction_on_a_disk_that_cannot_be_written_stops_before_anything_is_computed(
    rule, faulty_disk, shared_photos, oxford, tmp_path
):
    command = ["-m", "featx", "extract", shared_photos, "-o", tmp_path / "at" / "a.h5", "--size", "32", "--blocks", "1"]
    ran = run_on(faulty_disk, *command, FAULTY_DISK=rule)
    assert ran.returncode == 1
    assert "a.h5.parts cannot be written: " in ran.stderr
    assert ran.stderr.count("\n") == 1
    assert list((tmp_path / "at").iterdir()) == []


def test_an_output_that_is_a_folder_is_refused_before_anything_is_computed(tmp_path, shared_photos, oxford):
    (tmp_path / "a.h5").mkdir()
    with pytest.raises(StoreError, match=r"a\.h5 cannot be written: it is a folder; choose the name of a file"):
        extract(shared_photos, tmp_path / "a.h5", SPEC, overwrite=True)
    with pytest.raises(ModelError, match=r"a\.h5 cannot be written: it is a folder; choose the name of a file"):
        check_folder(tmp_path / "a.h5", ModelError)
    assert list(tmp_path.iterdir()) == [tmp_path / "a.h5"]
