import os
from pathlib import Path

import numpy as np
import pytest

from featx.errors import ImageError, ListingError
from featx.images.sources.any_source import list_images
from featx.images.sources.folder_layout import NOT_IN_CLASS, NOT_IN_SPLIT
from featx.images.sources.local_files import LocalFiles

pytestmark = pytest.mark.core


def touch(root, *names):
    for name in names:
        path = Path(root) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def rows(listing):
    """Return each path with its class name and its splits."""
    names = [*listing.classes, ""]
    columns = zip(*listing.columns.values(), strict=True) if listing.columns else [()] * len(listing.paths)
    return [
        (path, names[label], *splits)
        for path, label, splits in zip(listing.paths, listing.labels, columns, strict=True)
    ]


def test_sub_folders_are_classes(tmp_path):
    touch(tmp_path, "tulip/2.jpg", "rose/deep/er/1.png", "rose/1.jpg", "rose/notes.txt", "empty/readme.md", "all.csv")
    listing = list_images(tmp_path)
    assert rows(listing) == [("rose/1.jpg", "rose"), ("rose/deep/er/1.png", "rose"), ("tulip/2.jpg", "tulip")]
    assert listing.root == tmp_path
    assert listing.labels.dtype == np.int64
    assert listing.classes == ("rose", "tulip")
    assert listing.columns == {}
    assert listing.failures == ()


def test_paths_are_sorted_by_their_bytes(tmp_path):
    names = [
        "c/a.jpg",
        "c/B.jpg",
        "c/ä.jpg",
        "c/\U0001f33b.jpg",
        "c/\uffee.jpg",
        os.fsdecode(b"c/\xff.jpg"),
        "b/z.jpg",
        "b-/z.jpg",
    ]
    touch(tmp_path, *names)
    paths = list_images(str(tmp_path)).paths
    assert [os.fsencode(path) for path in paths] == sorted(os.fsencode(name) for name in names)


def test_a_flat_folder_has_no_labels(tmp_path):
    touch(tmp_path, "b.jpg", "a.jpg", "sub/readme.txt")
    listing = list_images(tmp_path)
    assert rows(listing) == [("a.jpg", ""), ("b.jpg", "")]
    assert listing.labels.tolist() == [-1, -1]
    assert listing.classes == ()


def test_labels_of_a_multi_label_manifest(tmp_path):
    touch(tmp_path, *"abcd", "x|y/e.jpg")
    (tmp_path / "m.csv").write_text("path,label\na,rose|ant\nb,rose\nc,\nd,bee | rose\n")
    listing = list_images(tmp_path / "m.csv")
    assert listing.classes == ("ant", "bee", "rose")
    assert list(listing.label_sets) == [(0, 2), (2,), (), (1, 2)]
    assert listing.labels.tolist() == [0, 2, -1, 1]
    (tmp_path / "m.csv").write_text("path,label\na,rose\nb,ant\n")
    assert list_images(tmp_path / "m.csv").label_sets is None
    assert list_images(tmp_path / "x|y").label_sets is None


@pytest.mark.parametrize("names", [("x|y/e.jpg",), ("train/x|y/e.jpg", "test/a.jpg")])
def test_a_class_folder_with_a_label_separator_is_refused(tmp_path, names):
    touch(tmp_path, *names)
    with pytest.raises(ListingError, match=r" must have no \|, .* in the name of a class, got 'x\|y'; rename it"):
        list_images(tmp_path)


def test_images_beside_class_folders_are_failures(tmp_path):
    touch(tmp_path, "rose/a.jpg", "loose.jpg", "astray.png")
    listing = list_images(tmp_path)
    assert list(listing.paths) == ["rose/a.jpg"]
    assert listing.failures == (("astray.png", NOT_IN_CLASS), ("loose.jpg", NOT_IN_CLASS))


def test_shards_beside_images_are_said_to_be_skipped(tmp_path):
    """Otherwise only a preview image that lies beside the shards of a data set would be extracted."""
    touch(tmp_path, "preview.png", "data/train-0.tar", "data/train-1.tar")
    listing = list_images(tmp_path)
    assert list(listing.paths) == ["preview.png"]
    hint = "hint: data/train-0.tar and others beside the images are skipped; to read the images in shards, give "
    assert f"{hint}the shards" in map(str, listing.notes)


@pytest.mark.parametrize("name", ["val", "valid", "validation", "Val"])
def test_folders_named_as_splits_are_splits(tmp_path, name):
    touch(tmp_path, "train/rose/b.jpg", "train/tulip/c.jpg", f"{name}/rose/deep/a.jpg", "test/iris/d.jpg", "readme.txt")
    listing = list_images(tmp_path)
    assert sorted(rows(listing)) == sorted(
        [
            ("test/iris/d.jpg", "iris", "test"),
            ("train/rose/b.jpg", "rose", "train"),
            ("train/tulip/c.jpg", "tulip", "train"),
            (f"{name}/rose/deep/a.jpg", "rose", "val"),
        ]
    )
    assert list(listing.paths) == sorted(listing.paths, key=os.fsencode)
    assert listing.classes == ("iris", "rose", "tulip")


def test_a_test_folder_without_classes_has_no_labels(tmp_path):
    touch(tmp_path, "train/rose/b.jpg", "train/loose.jpg", "test/1.jpg", "test/2.jpg", "lost.jpg")
    listing = list_images(tmp_path)
    assert rows(listing) == [
        ("test/1.jpg", "", "test"),
        ("test/2.jpg", "", "test"),
        ("train/rose/b.jpg", "rose", "train"),
    ]
    assert listing.failures == (
        ("lost.jpg", NOT_IN_SPLIT),
        ("train/loose.jpg", NOT_IN_CLASS),
    )


@pytest.mark.parametrize("names", [("train/a.jpg", "bus/b.jpg"), ("test/a.jpg", "vale/b.jpg")])
def test_folders_named_as_splits_beside_others_are_classes(tmp_path, names):
    touch(tmp_path, *names)
    listing = list_images(tmp_path)
    assert listing.columns == {}
    assert listing.classes == tuple(sorted(name.split("/")[0] for name in names))


def test_a_manifest_is_listed(tmp_path):
    touch(tmp_path, "x/b.jpg", "x/a.jpg", "c.jpg")
    (tmp_path / "rows.CSV").write_text(
        "path,label,split_0,split_1\nx/b.jpg,rose,train,test\nc.jpg,,test,\nx/a.jpg,iris,val,train\n"
    )
    listing = list_images(tmp_path / "rows.CSV")
    assert listing.root == tmp_path
    assert rows(listing) == [
        ("c.jpg", "", "test", ""),
        ("x/a.jpg", "iris", "val", "train"),
        ("x/b.jpg", "rose", "train", "test"),
    ]
    assert listing.classes == ("iris", "rose")
    assert list(listing.columns) == ["split_0", "split_1"]


def test_a_manifest_may_have_another_root_and_no_labels(tmp_path):
    touch(tmp_path / "photos", "a.jpg")
    (tmp_path / "rows.csv").write_text("path\na.jpg\n")
    listing = list_images(tmp_path / "rows.csv", root=str(tmp_path / "photos"))
    assert listing.root == tmp_path / "photos"
    assert rows(listing) == [("a.jpg", "")]
    assert listing.classes == ()


def test_reading_a_manifest_row_without_a_file_gives_the_reason(tmp_path):
    touch(tmp_path, "a.jpg", "folder/b.jpg")
    (tmp_path / "rows.csv").write_text("path,label\nz.jpg,only_missing\na.jpg,rose\nfolder,rose\nnul\0.jpg,x\n")
    listing = list_images(tmp_path / "rows.csv")
    assert list(listing.paths) == ["a.jpg", "folder", "nul\0.jpg", "z.jpg"]
    assert listing.read(0) == b"x"
    for row, reason in ((1, "is not a regular file"), (2, "does not exist"), (3, "does not exist")):
        with pytest.raises(ImageError, match=reason):
            listing.read(row)


def test_an_image_file_is_a_source(tmp_path):
    touch(tmp_path, "a.JPG")
    listing = list_images(tmp_path / "a.JPG")
    assert (listing.root, rows(listing)) == (tmp_path, [("a.JPG", "")])


def test_a_sequence_keeps_its_order_and_duplicates():
    listing = list_images(["z.jpg", Path("a/b.png"), "/c.jpg", "z.jpg"])
    assert listing.root == Path()
    assert list(listing.paths) == ["z.jpg", "a/b.png", "/c.jpg", "z.jpg"]
    assert listing.labels.tolist() == [-1] * 4
    assert list_images(["z.jpg"], root="photos").root == Path("photos")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "nowhere",
            "nowhere must be a folder, .* or an image file, but cannot be read: No such file or directory",
        ),
        ("nul\0", "must be a folder, .* or an image file, but cannot be read: embedded null (byte|character)"),
        ("notes.txt", "notes.txt must be a folder, .* but has the suffix '.txt'"),
        ("empty", r"empty must contain images that Pillow opens \(.jpg, .png, …\), got no image$"),
        (
            "texts",
            r"texts must contain images .*, got no image; 3 files skipped: .heic \(2\), .txt \(1\); to read .h",
        ),
        ("broken", "broken must contain images .* got no image; 'gone.jpg' not a regular file, or a broken symlink"),
        ("no_rows.csv", "no_rows.csv must name at least one image, but it has no rows$"),
        (
            "missing.csv",
            "must name at least one image, but none of its 2 rows names a file below .*; 'a.jpg' does not exist",
        ),
    ],
)
def test_a_source_without_images_is_refused_with_the_reason(tmp_path, name, message):
    touch(tmp_path, "notes.txt", "texts/a.txt", "texts/x/b.HEIC", "texts/c.heic")
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken/gone.jpg").symlink_to("nothing")
    (tmp_path / "no_rows.csv").write_text("path,label\n")
    (tmp_path / "missing.csv").write_text("path\nb.jpg\na.jpg\n")
    with pytest.raises(ListingError, match=message):
        list_images(tmp_path / name)


def test_a_wrong_root_is_found_without_looking_up_every_file(tmp_path, monkeypatch):
    (tmp_path / "many.csv").write_text("path\n" + "".join(f"a/{n}.jpg\nb/{n}.jpg\n" for n in range(1000)))
    asked, missing = [], LocalFiles.missing_reason
    monkeypatch.setattr(LocalFiles, "missing_reason", lambda files, path: asked.append(path) or missing(files, path))
    with pytest.raises(ListingError, match=r"none of its 2000 rows names a file below .*nowhere; 'a/0.jpg' does not"):
        list_images(tmp_path / "many.csv", tmp_path / "nowhere")
    assert len(asked) < 10
    touch(tmp_path, "somewhere/b/999.jpg")
    (tmp_path / "somewhere/a").symlink_to("nothing")
    assert len(list_images(tmp_path / "many.csv", tmp_path / "somewhere")) == 2000


def test_an_invalid_file_name_in_a_sequence_is_refused():
    with pytest.raises(ListingError, match=r"a sequence of images must contain file names, got '.*ud800"):
        list_images(["a.jpg", "\ud800"])


def test_an_empty_sequence_is_refused():
    with pytest.raises(ListingError, match="a sequence of images must name at least one path, got none"):
        list_images([])
