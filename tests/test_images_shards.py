"""Tar and Parquet shards as people have them: dots in names of samples, captions, labels in columns of any name."""

import io
import json
import tarfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Image, Value, load_dataset
from PIL import Image as Pillow

from featx import ListingOptions, list_images
from featx.errors import ImageError, ListingError


def picture(number=0):
    data = io.BytesIO()
    Pillow.new("RGB", (4, 4), (number, 0, 0)).save(data, "PNG")
    return data.getvalue()


def write_tar(path, members):
    path.parent.mkdir(exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, data in members.items() if isinstance(members, dict) else members:
            info = tarfile.TarInfo(name)
            data = (
                data
                if isinstance(data, bytes)
                else json.dumps(data).encode()
                if name.endswith("json")
                else data.encode()
            )
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def labels(listing):
    """Return the labels by path, without the name of the shard."""
    paths = (path.partition("/")[2] or path for path in listing.paths)
    return dict(zip(paths, ("|".join(names) for names in listing.rows.labels), strict=True))


def texts(listing):
    return [note.text for note in listing.notes]


PNG = picture()


def test_samples_with_dots_in_their_names_keep_their_labels(tmp_path):
    listing = list_images(write_tar(tmp_path / "a.tar", {
        "x.v1.png": PNG, "x.v1.cls": "cat", "x.v2.png": PNG, "x.v2.cls": "dog", "y.png": PNG, "y.cls": "eel",
    }))  # fmt: skip
    assert labels(listing) == {"x.v1.png": "cat", "x.v2.png": "dog", "y.png": "eel"}
    assert texts(listing) == ["2 images with a dot in the name, read as samples of their own (x.v1 and x.v2, not x)"]
    assert listing.notes[0].count == 2
    assert listing.failures == ()


def test_images_of_one_sample_share_its_label_and_this_is_said(tmp_path):
    listing = list_images(write_tar(tmp_path / "a.tar", {
        "x.left.png": PNG, "x.right.png": PNG, "x.json": {"label": "cat"}, "y.1.a.png": PNG, "y.1.b.png": PNG,
        "y.1.cls": "dog", "y.2.png": PNG, "y.2.cls": "eel",
    }))  # fmt: skip
    assert labels(listing) == {
        "x.left.png": "cat", "x.right.png": "cat", "y.1.a.png": "dog", "y.1.b.png": "dog", "y.2.png": "eel",
    }  # fmt: skip
    assert texts(listing)[1:] == ["4 images of samples with several images, all with its label"]


@pytest.mark.parametrize(
    "members",
    [
        {"x.v1.png": PNG, "x.v1.cls": "cat", "x.v2.png": PNG},
        {"x.v1.png": PNG, "x.v2.png": PNG, "x.v2.cls": "cat", "x.cls": "dog"},
        {"x.png": PNG, "x.v2.png": PNG, "x.v1.cls": "cat"},
        {"x.1.png": PNG, "x.2.png": PNG, "x.1.cls": "cat", "x.2.cls": "dog", "x.3.cls": "eel"},
    ],
)
def test_labels_that_belong_to_no_single_image_are_failures(tmp_path, members):
    listing = list_images(write_tar(tmp_path / "a.tar", {**members, "y.png": PNG}))
    assert list(listing.paths) == ["a.tar/y.png"]
    assert {path for path, _ in listing.failures} == {f"a.tar/{name}" for name in members if name.endswith("png")}
    for _, reason in listing.failures:
        assert "is in the sample 'x' with 2 images, whose labels do not belong to one image each: x." in reason


@pytest.mark.parametrize(
    "members",
    [
        [("x.png", PNG), ("x.cls", "cat"), ("x.json", {"label": "dog"})],
        [("x.png", PNG), ("x.a.cls", "cat"), ("x.b.cls", "dog")],
        [("x.png", PNG), ("x.cls", "cat"), ("x.cls", "dog")],
    ],
)
def test_two_labels_of_one_image_are_never_settled_silently(tmp_path, members):
    write_tar(tmp_path / "a.tar", [*members, ("y.png", PNG)])
    listing = list_images(tmp_path / "a.tar")
    ((path, reason),) = listing.failures
    assert path == "a.tar/x.png"
    assert "must have one label, got 'cat' in x." in reason
    assert "'dog' in x." in reason
    assert "choose by --label-column NAME, or cls for .cls files" in reason


def test_the_label_may_be_chosen_among_the_files_of_a_sample(tmp_path):
    write_tar(
        tmp_path / "a.tar", {"x.png": PNG, "x.cls": "3", "x.json": {"label": "dog", "breed": "pug", "patient": 7}}
    )
    for column, label in (("cls", "3"), ("label", "dog"), ("Breed", "pug")):
        listing = list_images(tmp_path / "a.tar", options=ListingOptions(label_column=column, group_column="patient"))
        assert labels(listing) == {"x.png": label}
        assert list(listing.columns["group"]) == ["7"]
    with pytest.raises(
        ListingError, match=r"--label-column must be a column of .*a\.tar: label, breed, patient, got 'x'"
    ):
        list_images(tmp_path / "a.tar", options=ListingOptions(label_column="x"))


def test_equal_labels_of_one_sample_are_one(tmp_path):
    listing = list_images(write_tar(tmp_path / "a.tar", {"x.png": PNG, "x.cls": "cat", "x.json": {"label": ["cat"]}}))
    assert (labels(listing), listing.failures) == ({"x.png": "cat"}, ())


def test_json_files_may_name_the_label_otherwise(tmp_path):
    samples = {
        "1.png": PNG,
        "1.json": {"Class": "cat", "size": 1},
        "2.png": PNG,
        "2.json": {"Class": "dog", "url": "u"},
    }
    listing = list_images(write_tar(tmp_path / "a.tar", samples))
    assert labels(listing) == {"1.png": "cat", "2.png": "dog"}
    assert texts(listing) == ["the label column is Class", "2 columns not kept: size, url"]
    write_tar(tmp_path / "a.tar", {"1.png": PNG, "1.json": {"class": "cat", "category": "pet"}, "2.png": PNG})
    ((_, reason),) = list_images(tmp_path / "a.tar").failures
    assert "must have one column of labels, got class, category; choose one by --label-column NAME" in reason


def test_shards_of_img2dataset_are_taken_without_captions_as_labels(tmp_path):
    for number in range(2):
        write_tar(tmp_path / f"{number:05d}.tar", {
            "1.png": PNG, "1.txt": "a cat", "1.json": {"caption": "a cat", "url": "u", "status": "success"},
        })  # fmt: skip
        pq.write_table(pa.table({"key": ["1"], "url": ["u"], "caption": ["a cat"]}), tmp_path / f"{number:05d}.parquet")
        (tmp_path / f"{number:05d}_stats.json").write_text("{}")
    listing = list_images(tmp_path)
    assert list(listing.paths) == ["00000.tar/1.png", "00001.tar/1.png"]
    assert listing.classes == ()
    assert texts(listing) == [
        "no column label; there are caption, url, status: --label-column NAME",
        "2 files in the shards skipped: .txt (2); captions (.txt) are not labels",
        "2 .parquet files without images beside the shards: 00000.parquet, 00001.parquet",
        "2 files skipped: .json (2)",
    ]
    pq.write_table(pa.table({"image": pa.array([PNG])}), tmp_path / "00001.parquet")
    with pytest.raises(ListingError, match=r"must contain \.tar or \.parquet shards, got \.parquet and \.tar; give"):
        list_images(tmp_path)


def test_folders_of_img2dataset_are_not_classes(tmp_path):
    for number in range(2):
        folder = tmp_path / f"{number:05d}"
        folder.mkdir()
        (folder / "1.png").write_bytes(PNG)
        (folder / "1.txt").write_text("a cat")
        pq.write_table(pa.table({"key": ["1"], "caption": ["a cat"]}), tmp_path / f"{number:05d}.parquet")
    listing = list_images(tmp_path)
    assert listing.classes == ()
    assert "the folders 00000, 00001 are parts of img2dataset, not classes (--layout)" in texts(listing)
    assert list_images(tmp_path, options=ListingOptions(layout="classes")).classes == ("00000", "00001")


def test_an_archive_of_split_folders_has_splits_and_classes(tmp_path):
    members = {f"pets/{split}/{label}/1.png": PNG for split in ("Training", "test") for label in ("cat", "dog")}
    listing = list_images(write_tar(tmp_path / "a.tar", members))
    assert listing.classes == ("cat", "dog")
    assert list(listing.columns["split"]) == ["train", "train", "test", "test"]
    assert listing.layout == "tar shards with split folders with class folders"
    assert texts(listing)[0] == "the folder pets around all others is neither a class nor a split (--layout classes)"
    listing = list_images(tmp_path / "a.tar", options=ListingOptions(layout="classes"))
    assert listing.classes == ("pets",)


def test_folders_in_shards_that_can_be_read_in_two_ways_are_refused(tmp_path):
    for site in ("north", "south"):
        write_tar(tmp_path / f"{site}.tar", {f"{site}/{label}/1.png": PNG for label in ("cat", "dog")})
    with pytest.raises(ListingError, match="can be read in two ways, because its folders have the same sub-folders"):
        list_images(tmp_path)
    options = ListingOptions(split_folders={"north": "train", "south": "test"})
    listing = list_images(tmp_path, options=options)
    assert (listing.classes, list(listing.columns["split"])) == (("cat", "dog"), ["train", "train", "test", "test"])


def test_split_folders_of_samples_with_labels(tmp_path):
    members = {}
    for split in ("train", "val"):
        members |= {f"{split}/1.png": PNG, f"{split}/1.cls": "cat"}
    listing = list_images(write_tar(tmp_path / "a.tar", members))
    assert labels(listing) == {"train/1.png": "cat", "val/1.png": "cat"}
    assert list(listing.columns["split"]) == ["train", "val"]
    assert texts(listing) == ["the folders train, val are the splits of their images"]
    write_tar(tmp_path / "a.tar", {"x/1.png": PNG, "x/1.cls": "cat"})
    assert list_images(tmp_path / "a.tar").columns == {}


def hugging_face_table(**columns):
    features = {"image": {"_type": "Image"}}
    arrays = {"image": [{"bytes": picture(n), "path": f"{n}.png"} for n in range(4)]}
    for name, (values, names) in columns.items():
        arrays[name] = values
        features[name] = {"_type": "ClassLabel", "names": names} if names else {"_type": "Value", "dtype": "string"}
    return pa.table(arrays).replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})


NAMES = ["cat", "dog", "cat", "dog"]


@pytest.mark.parametrize("name", ["labels", "Label", "class", "species", "fine_label"])
def test_a_class_label_of_any_name_is_the_label(tmp_path, name):
    """A column that Hugging Face declares as ClassLabel is recognized by its type."""
    table = hugging_face_table(**{name: ([0, 1, 0, 1], ["cat", "dog"]), "note": (["a"] * 4, None)})
    pq.write_table(table, tmp_path / "a.parquet")
    dataset = Dataset.from_parquet(str(tmp_path / "a.parquet"), cache_dir=str(tmp_path / "cache"))
    dataset.save_to_disk(tmp_path / "saved")
    for source in (tmp_path / "a.parquet", dataset, tmp_path / "saved"):
        listing = list_images(source)
        assert [label for (label,) in listing.rows.labels] == NAMES
        assert texts(listing) == [f"the label column is {name}", "1 column not kept: note"]
        assert listing.summary.columns == {"label": name}


def test_several_class_labels_are_refused_until_one_is_chosen(tmp_path):
    table = hugging_face_table(
        fine_label=([0, 1, 0, 1], ["cat", "dog"]), coarse_label=([0] * 4, ["pet"]), animal=(["x"] * 4, None)
    )
    pq.write_table(table, tmp_path / "a.parquet")
    dataset = Dataset.from_parquet(str(tmp_path / "a.parquet"), cache_dir=str(tmp_path / "cache"))
    for source in (tmp_path / "a.parquet", dataset, DatasetDict(train=dataset)):
        with pytest.raises(
            ListingError, match="must have one column of labels, got fine_label, coarse_label; choose one by"
        ):
            list_images(source)
        for column, names in (("fine_label", NAMES), ("coarse_label", ["pet"] * 4), ("animal", ["x"] * 4)):
            listing = list_images(source, options=ListingOptions(label_column=column))
            assert [label for (label,) in listing.rows.labels] == names
        with pytest.raises(ListingError, match=r"--label-column must be a column of .*, got 'label'"):
            list_images(source, options=ListingOptions(label_column="label"))


def test_a_column_named_label_comes_before_other_class_labels(tmp_path):
    pq.write_table(hugging_face_table(coarse=([0] * 4, ["pet"]), label=(NAMES, None)), tmp_path / "a.parquet")
    assert [label for (label,) in list_images(tmp_path / "a.parquet").rows.labels] == NAMES


def test_a_shard_may_lack_the_label_column_of_another(tmp_path):
    pq.write_table(hugging_face_table(fine_label=([0, 1, 0, 1], ["cat", "dog"])), tmp_path / "train.parquet")
    pq.write_table(hugging_face_table(coarse_label=([0] * 4, ["pet"])), tmp_path / "test.parquet")
    listing = list_images(tmp_path, options=ListingOptions(label_column="fine_label"))
    assert list(listing.rows.labels) == [()] * 4 + [(name,) for name in NAMES]


def test_shards_without_a_label_column_say_so(tmp_path):
    pq.write_table(
        pa.table({"image": pa.array([PNG]), "caption": ["a cat"], "patient_id": [1]}), tmp_path / "a.parquet"
    )
    listing = list_images(tmp_path / "a.parquet")
    assert texts(listing) == [
        "no column label; there are caption, patient_id: --label-column NAME",
        "images of one patient_id may be in training and in test: --group-column patient_id",
    ]
    listing = list_images(tmp_path / "a.parquet", options=ListingOptions(group_column="patient_id"))
    assert list(listing.columns["group"]) == ["1"]


def test_a_parquet_manifest_has_file_names_and_class_labels(tmp_path):
    for number in range(4):
        (tmp_path / f"{number}.png").write_bytes(picture(number))
    table = hugging_face_table(species=([0, 1, 0, 1], ["cat", "dog"])).drop_columns("image")
    names = pa.array([f"{tmp_path}/{n}.png" for n in range(3)] + ["3.png"]).dictionary_encode()
    pq.write_table(table.append_column("file_name", names), tmp_path / "metadata.parquet")
    listing = list_images(tmp_path / "metadata.parquet")
    assert [label for (label,) in listing.rows.labels] == NAMES
    assert texts(listing)[:2] == ["the path column is file_name", "the label column is species"]
    assert listing.notes[2].count == 3


def test_a_data_set_of_image_files_in_memory_reads_its_own_paths(tmp_path):
    """`load_dataset("imagefolder")` gives paths without bytes."""
    for label in ("cat", "dog"):
        (tmp_path / "photos" / label).mkdir(parents=True)
        (tmp_path / "photos" / label / "1.png").write_bytes(picture(len(label)))
    made = load_dataset("imagefolder", data_dir=str(tmp_path / "photos"), cache_dir=str(tmp_path / "cache"))
    for source in (made, made["train"]):
        listing = list_images(source)
        assert [label for (label,) in listing.rows.labels] == ["cat", "dog"]
        assert [listing.read(row) for row in range(2)] == [picture(3)] * 2
    rows = [{"image": {"bytes": None, "path": path}} for path in (str(tmp_path / "gone.png"), "memory://gone.png")]
    gone = list_images(Dataset.from_list(rows, features=Features({"image": Image()})))
    for row in range(2):
        with pytest.raises((OSError, ImageError), match="gone"):
            gone.read(row)


def test_class_labels_of_a_data_set_in_memory(tmp_path):
    features = Features({"image": Image(), "breed": ClassLabel(names=["cat", "dog"]), "Split": Value("string")})
    rows = [
        {"image": {"bytes": PNG, "path": None}, "breed": n, "Split": name} for n, name in enumerate(("Training", "dev"))
    ]
    listing = list_images(Dataset.from_list(rows, features=features))
    assert listing.classes == ("cat", "dog")
    assert list(listing.columns["split"]) == ["train", "val"]
