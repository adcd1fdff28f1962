"""What the sub-folders of a folder are: classes, splits by their usual names, or neither."""

from pathlib import Path

import pytest

from featx.errors import FeatxError, ListingError, SpecError
from featx.images.sources.any_source import list_images
from featx.images.sources.folder_layout import NOT_IN_CLASS, NOT_IN_SPLIT
from featx.images.sources.options import ListingOptions
from featx.images.sources.split_names import split_of_file, split_of_name

pytestmark = pytest.mark.core


def touch(root, *names):
    for name in names:
        path = Path(root) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return root


def grid(tops, inner):
    """Name one image in each sub-folder of each folder."""
    return [f"{top}/{name}/1.jpg" for top in tops.split() for name in inner.split()]


def guesses(summary):
    return " ".join(note.text for note in summary.notes if note.kind == "guessed")


@pytest.mark.parametrize(
    ("folders", "splits"),
    [
        ("Training Testing", {"train": 2, "test": 2}),
        ("train dev test", {"train": 2, "val": 2, "test": 2}),
        ("TRAIN VALIDATION TEST", {"train": 2, "val": 2, "test": 2}),
        ("training_set test_set", {"train": 2, "test": 2}),
        ("Train-Data Valid-Data Test-Data", {"train": 2, "val": 2, "test": 2}),
        ("train_images eval_images", {"train": 2, "test": 2}),
        ("TrainImages TestImages", {"train": 2, "test": 2}),
        ("train2017 val2017", {"train": 2, "val": 2}),
        ("trainval test", {"train": 2, "test": 2}),
        ("trainset testset", {"train": 2, "test": 2}),
        ("flowers_train flowers_test", {"train": 2, "test": 2}),
        ("train_1 train_2 evaluation", {"train": 4, "test": 2}),
        ("train", {"train": 2}),
        ("test", {"test": 2}),
        ("val test", {"val": 2, "test": 2}),
    ],
)
def test_split_folders_are_known_by_their_usual_names(tmp_path, folders, splits):
    touch(tmp_path, *grid(folders, "cat dog"))
    listing = list_images(tmp_path)
    summary = listing.summary
    assert summary.classes == dict.fromkeys(("cat", "dog"), len(folders.split()))
    assert summary.splits == splits
    assert summary.layout == "split folders with class folders"
    assert all(folder in guesses(summary) for folder in folders.split()), summary.notes
    assert listing.notes == summary.notes
    assert list(listing.paths) == sorted(listing.paths)


@pytest.mark.parametrize("name", ["cat", "images", "2017", "invalid", "tester", "test flight", "trains", "devil", ""])
def test_other_names_are_not_those_of_splits(name):
    assert split_of_name(name) == ""


@pytest.mark.parametrize(
    ("name", "split"), [("train-00.tar", "train"), ("flowers_dev_1.tar", "val"), ("testing.tar", "test"), ("a.tar", "")]
)
def test_a_word_in_the_name_of_a_file_is_its_split(name, split):
    assert split_of_file(name) == split


def test_equal_sub_folders_of_unknown_folders_are_refused_with_both_readings(tmp_path):
    touch(tmp_path, *grid("siteA siteB", "cat dog"))
    with pytest.raises(ListingError) as error:
        list_images(tmp_path)
    message = str(error.value)
    assert "the classes siteA, siteB (--layout classes)" in message
    assert "the splits siteA, siteB with the classes cat, dog in them (--layout splits" in message
    assert "--split-folders siteA=train,siteB=test" in message


@pytest.mark.parametrize(
    ("files", "words"),
    [
        (["p1/benign/1.jpg", "p1/bad/2.jpg", "p2/benign/3.jpg", "p3/bad/4.jpg"], ["p1", "benign", "--layout classes"]),
        ([*grid("siteA siteB", "cat dog"), "siteA/overview.jpg"], ["siteA", "cat", "--layout splits"]),
        (grid("train holdout", "cat dog"), ["train is a split", "holdout", "--layout classes"]),
        (grid("cat dog test", "cat dog"), ["test is a split", "--layout classes", "--split-folders cat=NAME"]),
        ([*grid("train test", "cat dog"), "extra/1.jpg"], ["extra", "--split-folders extra=NAME", "--layout classes"]),
        (grid("train eval test", "cat dog"), ["eval, test", "--split-folders eval=NAME,test=NAME"]),
        (grid("train dev val", "cat dog"), ["dev, val", "--split-folders dev=NAME,val=NAME"]),
        (grid("data/train data/test", "cat dog"), ["splits test, train", "/data instead", "--layout classes"]),
        (grid("x/x/train x/x/test", "cat dog"), ["splits test, train", "/x/x instead"]),
        (["x/train/cat/1.jpg"], ["the splits train", "/x instead"]),
        (grid("images", "cat dog"), ["the classes cat, dog", "/images instead", "images is the only class"]),
    ],
)
def test_an_ambiguous_folder_is_refused_with_what_decides(tmp_path, files, words):
    with pytest.raises(ListingError, match="can be read in two ways") as error:
        list_images(touch(tmp_path, *files))
    assert [word for word in words if word not in str(error.value)] == []
    # The readings that the message offers can be had.
    assert list_images(tmp_path, options=ListingOptions(layout="classes")).summary.splits == {}
    assert list_images(tmp_path, options=ListingOptions(layout="flat")).classes == ()


@pytest.mark.parametrize(
    "files",
    [
        ["rose/1.jpg", "rose/old/2.jpg"],
        ["rose/images/1.jpg", "tulip/images/2.jpg"],
        ["genus/a/1.jpg", "genus/b/1.jpg", "other/c/1.jpg", "other/d/1.jpg"],
        ["rose/2021/1.jpg", "rose/2022/2.jpg", "tulip/1.jpg", "iris/1.jpg"],
    ],
)
def test_class_folders_may_have_sub_folders(tmp_path, files):
    listing = list_images(touch(tmp_path, *files))
    assert listing.classes == tuple(sorted({file.split("/")[0] for file in files}))
    assert listing.notes == ()


@pytest.mark.parametrize("files", [["cat/1.jpg", "dog/1.jpg", "test/1.jpg"], ["bus/1.jpg", "train/a/1.jpg"]])
def test_a_class_named_as_a_split_is_a_class_and_that_is_said(tmp_path, files):
    listing = list_images(touch(tmp_path, *files))
    name = "test" if "test/1.jpg" in files else "train"
    assert name in listing.classes
    assert listing.columns == {}
    assert f"the folder {name} is a class" in guesses(listing.summary)


def test_split_folders_in_class_folders(tmp_path):
    touch(tmp_path, *grid("cat dog", "Training Testing"), "cat/loose.jpg")
    listing = list_images(tmp_path)
    assert listing.summary.classes == {"cat": 2, "dog": 2}
    assert listing.summary.splits == {"train": 2, "test": 2}
    assert listing.summary.layout == "class folders with split folders"
    assert listing.failures == (("cat/loose.jpg", NOT_IN_SPLIT),)
    assert "Testing, Training in each class folder are the splits test, train" in guesses(listing.summary)


def test_split_folders_in_some_class_folders_are_refused_or_said(tmp_path):
    touch(tmp_path / "raw", *grid("cat dog", "train test raw"))
    with pytest.raises(ListingError, match=r"test, train in the class folders are splits, .*--split-folders raw=NAME"):
        list_images(tmp_path / "raw")
    options = ListingOptions(split_folders={"raw": "raw"})
    assert list_images(tmp_path / "raw", options=options).summary.splits == {"raw": 2, "test": 2, "train": 2}
    listing = list_images(touch(tmp_path / "beside", "cat/1.jpg", "cat/test/2.jpg", "dog/1.jpg"))
    assert (listing.classes, listing.columns) == (("cat", "dog"), {})
    assert guesses(listing.summary) == "folders in class folders that are not taken as splits: test"


def test_a_split_folder_that_repeats_itself_is_no_class(tmp_path):
    """Archives are often unpacked so, and contests put the test set into one more folder."""
    touch(tmp_path, *grid("seg_train/seg_train", "cat dog"), "seg_test/images/1.jpg")
    summary = list_images(tmp_path).summary
    assert (summary.classes, summary.splits, summary.unlabeled) == ({"cat": 1, "dog": 1}, {"train": 2, "test": 1}, 1)
    assert "images in seg_test have no labels" in guesses(summary)


def test_splits_without_class_folders_are_not_classes(tmp_path):
    """Training and Testing would be perfectly separable as classes, and mean nothing."""
    listing = list_images(touch(tmp_path, "Training/1.jpg", "Testing/2.jpg"))
    assert (listing.classes, listing.summary.unlabeled) == ((), 2)
    assert "with --layout classes, Testing, Training would be classes" in guesses(listing.summary)
    options = ListingOptions(layout="classes")
    assert list_images(tmp_path, options=options).classes == ("Testing", "Training")


def test_a_class_that_only_another_split_has_is_said(tmp_path):
    listing = list_images(touch(tmp_path, *grid("train", "cat dog"), "test/unknown/1.jpg", "test/cat/2.jpg"))
    hints = [note.text for note in listing.summary.notes if note.kind == "hint"]
    assert hints == ["classes without an image in the split train: unknown (1)"]


@pytest.mark.parametrize(
    ("options", "classes", "splits"),
    [
        ({"layout": "splits"}, {"cat": 2, "dog": 2}, {"siteA": 2, "siteB": 2}),
        ({"layout": "classes"}, {"siteA": 2, "siteB": 2}, {}),
        ({"layout": "flat"}, {}, {}),
        ({"split_folders": {"siteA": "train", "siteB/": " test"}}, {"cat": 2, "dog": 2}, {"train": 2, "test": 2}),
        ({"split_folders": {"cat": "train", "dog": "val"}}, {"siteA": 2, "siteB": 2}, {"train": 2, "val": 2}),
    ],
)
def test_options_decide(tmp_path, options, classes, splits):
    touch(tmp_path, *grid("siteA siteB", "cat dog"))
    listing = list_images(tmp_path, options=ListingOptions(**options))
    assert (listing.summary.classes, listing.summary.splits) == (classes, splits)
    assert len(listing) == 4
    assert listing.notes == ()


def test_a_given_split_wins_over_the_name(tmp_path):
    touch(tmp_path, *grid("train eval test", "cat"))
    options = ListingOptions(split_folders={"eval": "val"})
    assert list_images(tmp_path, options=options).summary.splits == {"train": 1, "val": 1, "test": 1}
    options = ListingOptions(split_folders={"train": "test", "eval": "val", "test": "train"})
    listing = list_images(tmp_path, options=options)
    assert dict(zip(listing.paths, listing.columns["split"], strict=True))["train/cat/1.jpg"] == "test"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split_folders": {"siteA": "train"}}, "has the folders siteB, .* no usual names of splits.* siteB=NAME"),
        ({"split_folders": {"siteA": "train", "x": "y"}}, r"--split-folders names, got x; there are siteA, siteB"),
        ({"label_column": "class"}, "--label-column must be left out for the folder .*: it has no effect there"),
        ({"group_column": "patient"}, "--group-column must be left out for the folder"),
    ],
)
def test_an_option_that_does_not_fit_is_refused(tmp_path, options, message):
    touch(tmp_path, *grid("siteA siteB", "cat dog"))
    with pytest.raises(ListingError, match=message):
        list_images(tmp_path, options=ListingOptions(**options))


@pytest.mark.parametrize("layout", ["splits", "auto"])
def test_split_folders_need_folders(tmp_path, layout):
    options = ListingOptions(layout=layout, split_folders=None if layout == "splits" else {"a": "train"})
    with pytest.raises(ListingError, match=r"must have folders of splits .* but has no folder of images"):
        list_images(touch(tmp_path, "1.jpg"), options=options)


@pytest.mark.parametrize("source", ["rows.csv", "one.jpg", "list"])
@pytest.mark.parametrize("options", [{"layout": "classes"}, {"split_folders": {"a": "train"}}])
def test_options_for_folders_are_refused_for_other_sources(tmp_path, source, options):
    touch(tmp_path, "one.jpg")
    (tmp_path / "rows.csv").write_text("path\none.jpg\n")
    given = ["one.jpg"] if source == "list" else tmp_path / source
    with pytest.raises(ListingError, match=r"--(layout|split-folders) must be left out for"):
        list_images(given, options=ListingOptions(**options))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layout": "tree"}, "layout of ListingOptions must be one of auto, classes, splits, flat, got 'tree'"),
        ({"split_folders": {}}, "split_folders of ListingOptions must map folders to splits"),
        ({"split_folders": {"a/b": "train"}}, "must map the name of a folder to the name of a split, got 'a/b'"),
        ({"split_folders": {"a": " "}}, "must map the name of a folder to the name of a split, got 'a': ' '"),
        ({"layout": "flat", "split_folders": {"a": "b"}}, "is for layout splits, got layout flat"),
        ({"label_column": ""}, "label_column of ListingOptions must be the name of a column, got ''"),
        ({"label_column": "a", "group_column": "a"}, "must be different, got 'a' twice"),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(SpecError, match=message) as error:
        ListingOptions(**options)
    assert isinstance(error.value, FeatxError)


def test_options_can_be_sent_and_stored():
    import pickle

    options = ListingOptions(split_folders={"Training": "train"}, label_column="class")
    assert pickle.loads(pickle.dumps(options)) == options
    assert ListingOptions(**options.to_dict()) == options


def test_images_beside_the_folders_are_failures_with_every_layout(tmp_path):
    touch(tmp_path, *grid("train test", "cat"), "loose.jpg", "train/loose.jpg")
    listing = list_images(tmp_path)
    assert listing.failures == (("loose.jpg", NOT_IN_SPLIT), ("train/loose.jpg", NOT_IN_CLASS))
    assert listing.summary.failures == 2
    assert list(listing.paths) == ["test/cat/1.jpg", "train/cat/1.jpg"]


def test_rows_of_split_folders_are_sorted_by_their_bytes(tmp_path):
    """The folder train-2 comes before train, because - comes before /."""
    listing = list_images(touch(tmp_path, *grid("train train-2 Test", "b a")))
    assert list(listing.paths) == sorted(listing.paths, key=str.encode)
    assert [path.split("/")[0] for path in listing.paths][::2] == ["Test", "train-2", "train"]


def test_the_names_of_class_folders_are_stripped_as_in_a_manifest(tmp_path):
    touch(tmp_path, "train/Cat/1.jpg", "train/dog/2.jpg", "test/cat/3.jpg", "test/dog /4.jpg", "test/ owl/5.jpg")
    summary = list_images(tmp_path).summary
    assert summary.classes == {"Cat": 1, "cat": 1, "dog": 2, "owl": 1}
    merged = [note.text for note in summary.notes if note.kind == "merged"]
    assert merged == ["the folder ' owl' is the class 'owl'", "the folders 'dog', 'dog ' are one class"]
    (tmp_path / "rows.csv").write_text(
        "path,label\ntrain/Cat/1.jpg,Cat\ntrain/dog/2.jpg,dog\ntest/cat/3.jpg,cat\ntest/dog /4.jpg,dog \n"
    )
    assert list_images(tmp_path / "rows.csv").summary.classes == {"Cat": 1, "cat": 1, "dog": 2}
    with pytest.raises(ListingError, match="must have no blank name of a class, got the folder ' '"):
        list_images(touch(tmp_path / "blank", " /1.jpg", "cat/1.jpg"))
