import inspect
import os
import subprocess
import sys
from pathlib import Path

import pytest

from featx.images.sources.local_files import LOOP, find_image_files

pytestmark = pytest.mark.core


def touch(root, *names):
    for name in names:
        path = Path(root) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def test_files_with_image_suffixes_in_any_case_are_found(tmp_path):
    touch(tmp_path, "a.jpg", "B.JPEG", "c.Png", "d.txt", "e.csv", "Thumbs.db", "no_suffix", "f.pdf", "g.mp4", "jpg")
    found = find_image_files(tmp_path)
    assert sorted(found.paths) == ["B.JPEG", "a.jpg", "c.Png"]
    assert found.skipped == {".txt": 1, ".csv": 1, "no suffix": 2, ".pdf": 1, ".mp4": 1}
    assert found.system == {"Thumbs.db": 1}


def test_hidden_files_and_folders_are_skipped(tmp_path):
    touch(tmp_path, ".hidden.jpg", "._a.jpg", ".cache/b.jpg", "x/.git/c.jpg", "x/d.jpg", ".jpg")
    assert find_image_files(tmp_path).paths == ["x/d.jpg"]


ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
NAMES = [
    "with space.jpg",
    "🌻.png",
    "new\nline.jpg",
    "ünï.jpg",
    os.fsdecode(b"bad\xff\xfe.jpg"),
    "quote'\".jpg",
    "-.jpg",
]


def test_unusual_file_names_are_kept_unchanged(tmp_path):
    touch(tmp_path, *(f"{os.fsdecode(b'dir' + bytes([255]))}/{name}" for name in NAMES))
    paths = find_image_files(tmp_path).paths
    assert sorted(path.split("/")[1] for path in paths) == sorted(NAMES)
    assert all((tmp_path / path).read_bytes() == b"x" for path in paths)


def test_symlinks_to_folders_are_followed(tmp_path):
    touch(tmp_path, "real/a.jpg", "photos/own/b.jpg")
    (tmp_path / "photos/linked").symlink_to(tmp_path / "real")
    found = find_image_files(tmp_path / "photos")
    assert sorted(found.paths) == ["linked/a.jpg", "own/b.jpg"]
    assert found.failures == []


def test_symlink_loops_are_not_followed(tmp_path):
    touch(tmp_path, "a/b/c.jpg")
    (tmp_path / "a/b/up").symlink_to("..")
    (tmp_path / "a/top").symlink_to(tmp_path)
    (tmp_path / "a/itself").symlink_to("itself")
    found = find_image_files(tmp_path)
    assert found.paths == ["a/b/c.jpg"]
    failures = dict(found.failures)
    assert failures["a/b/up"] == failures["a/top"] == LOOP
    assert "symbolic links" in failures.get("a/itself", "symbolic links")


def test_broken_symlinks_and_pipes_with_image_suffixes_are_failures(tmp_path):
    (tmp_path / "gone.jpg").symlink_to("nowhere.jpg")
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "round.jpg").symlink_to("round.jpg")
    (tmp_path / "folder.jpg").mkdir()
    found = find_image_files(tmp_path)
    assert found.paths == []
    failures = dict(found.failures)
    assert failures["gone.jpg"] == failures["pipe.png"] == "not a regular file, or a broken symlink"
    assert failures["round.jpg"].startswith("cannot be read: ")
    assert len(failures) == 3


def test_an_unreadable_folder_is_a_failure(tmp_path, monkeypatch):
    touch(tmp_path, "open/a.jpg", "closed/b.jpg")
    scandir = os.scandir

    def guarded(folder):
        if Path(folder).name == "closed":
            raise PermissionError(13, "Permission denied")
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", guarded)
    found = find_image_files(tmp_path)
    assert found.paths == ["open/a.jpg"]
    assert found.failures == [("closed", "cannot be read: Permission denied")]


def test_a_folder_without_permission_is_a_failure(tmp_path):
    """With real permissions: if the test runs as root, whom they do not stop, it becomes another user first."""
    touch(tmp_path, "open/a.jpg", "closed/b.jpg")
    (tmp_path / "closed").chmod(0)
    tmp_path.chmod(0o755)
    # The other user may have no access to this folder by its path, nor to Python's modules: import and list first.
    code = (
        "import os; from featx.images.sources.local_files import find_image_files; find_image_files('.'); "
        "os.getuid() or os.setuid(65534); print(find_image_files('.').failures)"
    )
    command = [sys.executable, "-c", code]
    try:
        run = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path, env=ENVIRONMENT)
    finally:
        (tmp_path / "closed").chmod(0o700)
    assert run.stdout.strip() == "[('closed', 'cannot be read: Permission denied')]"


def test_an_unreadable_root_is_a_failure(tmp_path):
    found = find_image_files(tmp_path / "missing")
    assert found.failures == [(".", "cannot be read: No such file or directory")]


def test_folders_may_be_nested_deeper_than_the_recursion_limit(tmp_path):
    touch(tmp_path, "d/" * 150 + "a.jpg")
    # Leave fewer stack frames than there are nested folders.
    depth = len(inspect.stack(0))
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(depth + 100)
    try:
        found = find_image_files(tmp_path)
    finally:
        sys.setrecursionlimit(limit)
    assert found.paths == ["d/" * 150 + "a.jpg"]


@pytest.mark.parametrize("name", ["a.jpg", "a.txt"])
def test_files_are_listed_without_stat(tmp_path, monkeypatch, name):
    touch(tmp_path, *(f"{number}{name}" for number in range(50)))
    stat, calls = os.stat, []
    monkeypatch.setattr(os, "stat", lambda *args, **options: calls.append(args) or stat(*args, **options))
    find_image_files(tmp_path)
    assert len(calls) == 1
