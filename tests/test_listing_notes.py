"""What a listing says about itself: skipped files, system folders, similar names, and the counts of classes."""

import os
import unicodedata
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from featx.images.sources.any_source import list_images
from featx.images.sources.found_files import SYSTEM_FOLDERS
from featx.images.sources.notes import Note, count_list, name_list
from featx.images.sources.similar_names import similar_names

pytestmark = pytest.mark.core


def image(format_: str = "JPEG") -> bytes:
    data = BytesIO()
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(data, format_)
    return data.getvalue()


def write(root, **files):
    for name, data in files.items():
        path = Path(root) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return root


def touch(root, *names):
    return write(root, **dict.fromkeys(names, b"x"))


def texts(listing, kind=None):
    return [note.text for note in listing.summary.notes if kind in (None, note.kind)]


def test_skipped_files_are_counted_by_suffix(tmp_path):
    touch(tmp_path, "a/1.jpg", "a/2.HEIC", "a/3.heic", "b/3.jpg", "b/scan.dcm", "b/notes")
    listing = list_images(tmp_path)
    (note,) = (note for note in listing.notes if note.kind == "skipped")
    assert note == Note("skipped", "4 files skipped: .heic (2), .dcm (1), no suffix (1)", 4)
    hints = texts(listing, "hint")
    assert "to read .heic, install pillow-heif: pip install pillow-heif" in hints
    assert any("DICOM (.dcm)" in hint for hint in hints)


def test_a_listing_of_images_alone_has_no_note(tmp_path):
    assert list_images(touch(tmp_path, "a/1.jpg", "b/2.jpg")).summary.notes == ()


def test_a_file_without_a_suffix_whose_bytes_are_an_image_is_taken(tmp_path):
    write(tmp_path, **{"a/1.jpg": image(), "b/IMG_0001": image(), "b/scan.0001": image("PNG"), "b/README": b"P text"})
    write(tmp_path, **{"b/backup.jpg~": image(), "b/empty": b""})
    listing = list_images(tmp_path)
    assert list(listing.paths) == ["a/1.jpg", "b/IMG_0001", "b/scan.0001"]
    assert texts(listing, "skipped") == ["3 files skipped: no suffix (2), .jpg~ (1)"]
    assert texts(listing, "guessed") == ["2 files without a suffix taken: images by their first bytes"]
    assert listing.read(1) == image()


def test_one_file_without_a_suffix_is_a_source(tmp_path):
    write(tmp_path, IMG_0001=image())
    assert list(list_images(tmp_path / "IMG_0001").paths) == ["IMG_0001"]


def test_a_pipe_without_a_suffix_is_not_waited_for(tmp_path):
    touch(tmp_path, "a/1.jpg")
    os.mkfifo(tmp_path / "a/pipe")
    assert texts(list_images(tmp_path)) == ["1 file skipped: no suffix (1)"]


@pytest.mark.parametrize("folder", ["@eaDir", "#recycle", "$RECYCLE.BIN", "System Volume Information", "__MACOSX"])
def test_folders_of_file_servers_and_systems_are_skipped_and_said(tmp_path, folder):
    touch(tmp_path, "rose/1.jpg", "tulip/1.jpg", f"{folder}/old.jpg", f"rose/{folder}/1.jpg/THUMB.jpg")
    listing = list_images(tmp_path)
    assert list(listing.paths) == ["rose/1.jpg", "tulip/1.jpg"]
    (note,) = listing.notes
    assert (note.kind, note.count) == ("skipped", 2)
    assert f"{folder} (2)" in note.text


@pytest.mark.parametrize("name", sorted(SYSTEM_FOLDERS))
def test_every_system_folder_is_skipped_in_any_case(tmp_path, name):
    touch(tmp_path, "rose/1.jpg", f"{name.upper()}/1.jpg")
    assert list(list_images(tmp_path).paths) == ["rose/1.jpg"]


def test_files_of_systems_and_thumbnails_are_skipped_and_said(tmp_path):
    touch(tmp_path, "rose/1.jpg", "rose/Thumbs.db", "rose/desktop.ini", "rose/SYNOPHOTO_THUMB_XL.jpg", "rose/a.db")
    listing = list_images(tmp_path)
    assert list(listing.paths) == ["rose/1.jpg"]
    first, second = texts(listing)
    assert first == "1 file skipped: .db (1)"
    assert second.startswith("3 files and folders of file servers and operating systems skipped: ")
    assert all(name in second for name in ("Thumbs.db (1)", "desktop.ini (1)", "SYNOPHOTO_THUMB_* (1)"))


def test_hidden_files_and_folders_are_counted(tmp_path):
    touch(tmp_path, "a/1.jpg", "a/._1.jpg", "a/._2.jpg", ".DS_Store", ".ipynb_checkpoints/2.jpg", ".Trash-1000/3.jpg")
    listing = list_images(tmp_path)
    assert list(listing.paths) == ["a/1.jpg"]
    (note,) = listing.notes
    assert note.count == 5
    assert note.text.startswith("5 hidden files and folders skipped: ._* (2), ")


def test_files_beside_shards_are_said(tmp_path):
    import tarfile

    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        info = tarfile.TarInfo("cat/1.jpg")
        info.size = len(image())
        tar.addfile(info, BytesIO(image()))
    touch(tmp_path, "a_stats.json", "@eaDir/a.tar")
    listing = list_images(tmp_path)
    assert listing.layout == "tar shards with class folders"
    assert texts(listing) == [
        "1 file skipped: .json (1)",
        "1 file or folder of a file server or operating system skipped: @eaDir (1)",
    ]


@pytest.mark.parametrize(
    ("names", "groups"),
    [
        (["Cat", "cat", "dog"], [("Cat", "cat")]),
        (["sea_lion", "sea lion", "Sea-Lion", "sealion"], [("Sea-Lion", "sea lion", "sea_lion")]),
        (["café", unicodedata.normalize("NFD", "café")], [(unicodedata.normalize("NFD", "café"), "café")]),
        (["Straße", "STRASSE"], [("STRASSE", "Straße")]),
        (["a", "b", "a1", "a_1"], []),
    ],
)
def test_names_that_a_person_would_take_for_one(names, groups):
    assert similar_names(names) == groups


@pytest.mark.parametrize("source", ["folder", "manifest"])
def test_similar_classes_are_said_with_both_spellings_and_counts(tmp_path, source):
    touch(tmp_path / "photos", "Cat/1.jpg", "cat/2.jpg", "cat/3.jpg", "dog/4.jpg")
    (tmp_path / "rows.csv").write_text(
        "path,label\nCat/1.jpg,Cat\ncat/2.jpg,cat\ncat/3.jpg,cat\ndog/4.jpg,dog\n", encoding="utf-8"
    )
    listing = (
        list_images(tmp_path / "photos")
        if source == "folder"
        else list_images(tmp_path / "rows.csv", tmp_path / "photos")
    )
    (note,) = listing.summary.notes
    assert note.kind == "hint"
    assert "'Cat' (1) and 'cat' (2)" in note.text


def test_similar_splits_are_said(tmp_path):
    touch(tmp_path, "1.jpg", "2.jpg")
    (tmp_path / "rows.csv").write_text("path,label,split\n1.jpg,a,Fold 1\n2.jpg,a,fold_1\n")
    (note,) = list_images(tmp_path / "rows.csv").summary.notes
    assert "splits whose names differ only" in note.text


def test_the_summary_counts_classes_of_multi_label_images(tmp_path):
    touch(tmp_path, *"abcd")
    (tmp_path / "m.csv").write_text("path,label,split\na,rose|ant,train\nb,rose,train\nc,,\nd,ant | rose,test\n")
    summary = list_images(tmp_path / "m.csv").summary
    assert summary.images == 4
    assert summary.classes == {"ant": 2, "rose": 3}
    assert summary.unlabeled == 1
    assert summary.splits == {"test": 1, "train": 2}
    assert summary.columns == {"split": "split"}
    assert summary.layout == "manifest"
    assert summary.lines()[:3] == [
        "4 images listed: manifest",
        "2 classes: rose (3), ant (2)",
        "1 image without a label",
    ]


def test_long_lists_and_names_are_cut():
    counts = {f".s{number}": number + 1 for number in range(9)} | {"x" * 300: 20}
    text = count_list(counts)
    assert text.startswith("x" * 80 + "… (20), .s8 (9), ")
    assert text.endswith(", 4 more (10)")
    assert name_list(["a\n", "b"]) == "a\\n, b"


def test_a_folder_behind_a_url_is_described_too():
    """Looking into files without a suffix would need a request for each, so they are only counted."""
    fsspec = pytest.importorskip("fsspec")
    system = fsspec.filesystem("memory")
    names = ["train/cat/1.jpg", "test/cat/1.jpg", "train/@eaDir/1.jpg", "train/cat/IMG_1", "train/.git/1.jpg", "a.heic"]
    for name in (*names, "train/cat/SYNOPHOTO_THUMB_M.jpg"):
        system.pipe(f"/described/{name}", image())
    try:
        listing = list_images("memory://described")
    finally:
        system.rm("/described", recursive=True)
    assert list(listing.paths) == ["test/cat/1.jpg", "train/cat/1.jpg"]
    assert listing.summary.splits == {"test": 1, "train": 1}
    assert texts(listing, "skipped") == [
        "2 files skipped: .heic (1), no suffix (1)",
        "2 files and folders of file servers and operating systems skipped: @eaDir (1), SYNOPHOTO_THUMB_* (1)",
        "1 hidden file or folder skipped: .git (1)",
    ]


def test_splits_in_the_names_of_shards_are_said(tmp_path):
    import tarfile

    for name in ("train-0.tar", "testing-0.tar"):
        with tarfile.open(tmp_path / name, "w") as tar:
            info = tarfile.TarInfo("cat/1.jpg")
            info.size = len(image())
            tar.addfile(info, BytesIO(image()))
    listing = list_images(tmp_path)
    assert listing.summary.splits == {"test": 1, "train": 1}
    assert "the splits test, train are from the names of the files" in texts(listing, "guessed")
