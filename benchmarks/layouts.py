"""Compare what featx, torchvision, datasets and Keras make of the same files in the layouts that people have.

    python benchmarks/layouts.py WORK

This writes each layout into a folder in WORK, and lists it with featx, torchvision's ``ImageFolder``, ``imagefolder``
of Hugging Face datasets, and ``image_dataset_from_directory`` of Keras. Keras must be in ``.venv-peers``, which ``make
bench-layouts`` creates. The script prints a table, saves it as docs/benchmarks/layouts.json, and puts it into
docs/benchmarks.md.

The images are drawn. Each layout says which images, classes and splits are in it.
"""

import io
import json
import re
import subprocess
import sys
import tarfile
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image
from reporting import machine, publish, save, say, table

from featx import list_images
from featx.errors import FeatxError
from featx.images import PixelRemark, decode

KERAS = Path(__file__).parents[1] / ".venv-peers" / "bin" / "python"
KERAS_SCRIPT = Path(__file__).parent / "contenders" / "keras_layouts.py"
READERS = ("featx", "torchvision", "datasets", "Keras")
CLASSES = ("cat", "dog")
BOTH = {"cat": 2, "dog": 2}
TRAIN_TEST = {"test": 2, "train": 2}


@dataclass
class Found:
    """What a library found in a folder: numbers of images, and of those of each class and split."""

    images: int = 0
    classes: Mapping[str, int] = field(default_factory=dict)
    splits: Mapping[str, int] = field(default_factory=dict)
    error: str = ""
    note: str = ""

    def describe(self) -> str:
        """Describe the result in a cell of a table."""
        if self.error:
            return f"refused: {self.error}"
        classes = ", ".join(self.classes) or "no labels"
        splits = f"; {', '.join(self.splits)}" if self.splits else ""
        note = f"; {self.note}" if self.note else ""
        return f"{self.images}: {classes}{splits}{note}"

    def agrees(self, other: "Found") -> bool:
        """Return whether images, classes and splits are the same. Hugging Face's name for ``val`` is ``validation``."""
        splits = {"val" if name == "validation" else name: count for name, count in self.splits.items()}
        return not self.error and (self.images, self.classes, splits) == (other.images, other.classes, other.splits)


@dataclass(frozen=True)
class Layout:
    """A layout of files.

    Attributes
    ----------
    name : str
    write : callable
        Writes the files into a folder, and returns the file or folder to read.
    truth : Found
        What is in the files.
    why : str
        Why featx's reading is right, if others differ.
    """

    name: str
    write: Callable[[Path], Path]
    truth: Found
    why: str


def draw(number: int) -> Image.Image:
    """Draw a small image; each number gives another one."""
    pixels = np.random.default_rng(number).integers(0, 256, (6, 8, 3), np.uint8)
    return Image.fromarray(pixels).resize((64, 48), Image.Resampling.NEAREST)


def png(number: int) -> bytes:
    """Draw an image as a PNG file."""
    data = io.BytesIO()
    draw(number).save(data, "PNG")
    return data.getvalue()


def put(root: Path, *names: str) -> Path:
    """Write an image under each name; all differ."""
    for number, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        draw(number).save(root / name)
    return root


def write(path: Path, *lines: str) -> Path:
    """Write lines of text."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")
    return path


def write_tar(path: Path, members: Mapping[str, bytes]) -> None:
    """Write a tar file."""
    with tarfile.open(path, "w") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def class_folders(root: Path) -> Path:
    """Write class folders."""
    return put(root, *(f"{label}/{number}.jpg" for label in CLASSES for number in range(2)))


def file_server(root: Path) -> Path:
    """Write class folders, with what a file server leaves in them."""
    class_folders(root)
    return put(root, "dog/@eaDir/1.jpg/SYNOPHOTO_THUMB_XL.jpg", "#recycle/old.jpg")


def split_folders(root: Path) -> Path:
    """Write folders train and val."""
    return put(root, *(f"{split}/{label}/1.jpg" for split in ("train", "val") for label in CLASSES))


def kaggle(root: Path) -> Path:
    """Write folders Training and Testing."""
    return put(root, *(f"{split}/{label}/1.jpg" for split in ("Training", "Testing") for label in CLASSES))


def metadata_csv(root: Path) -> Path:
    """Write images with metadata.csv."""
    put(root, *(f"images/{number}.jpg" for number in range(4)))
    write(root / "metadata.csv", "file_name,label", *(f"images/{n}.jpg,{CLASSES[n % 2]}" for n in range(4)))
    return root


def metadata_jsonl(root: Path) -> Path:
    """Write split folders, each with metadata.jsonl."""
    for split in ("train", "test"):
        put(root / split, "0.jpg", "1.jpg")
        rows = ({"file_name": f"{number}.jpg", "label": label} for number, label in enumerate(CLASSES))
        write(root / split / "metadata.jsonl", *map(json.dumps, rows))
    return root


def metadata_parquet(root: Path) -> Path:
    """Write images with metadata.parquet."""
    put(root, *(f"{number}.jpg" for number in range(4)))
    rows = {"file_name": [f"{number}.jpg" for number in range(4)], "label": [CLASSES[n % 2] for n in range(4)]}
    pq.write_table(pa.table(rows), root / "metadata.parquet")
    return root


def webdataset(root: Path) -> Path:
    """Write tar shards of WebDataset; names of samples have dots."""
    root.mkdir()
    for split in ("train", "test"):
        members = {}
        for number, label in enumerate(CLASSES):
            members |= {f"photo.v{number}.png": png(number), f"photo.v{number}.cls": label.encode()}
        write_tar(root / f"{split}-000.tar", members)
    return root


def img2dataset(root: Path) -> Path:
    """Write what img2dataset writes: shards with captions, and metadata beside them."""
    root.mkdir()
    for shard in range(2):
        members = {}
        for number in range(2):
            key = f"{shard:05d}{number:04d}"
            about = json.dumps(
                {"caption": "a cat", "url": "https://example.org/1.png", "key": key, "status": "success"}
            )
            members |= {f"{key}.png": png(number), f"{key}.txt": b"a cat", f"{key}.json": about.encode()}
        write_tar(root / f"{shard:05d}.tar", members)
        pq.write_table(pa.table({"key": ["0", "1"], "caption": ["a cat"] * 2}), root / f"{shard:05d}.parquet")
        write(root / f"{shard:05d}_stats.json", "{}")
    return root


def parquet(root: Path) -> Path:
    """Write Parquet files as in data sets of the Hugging Face hub; the labels are in a column of another name."""
    root.mkdir()
    features = {"image": {"_type": "Image"}, "labels": {"_type": "ClassLabel", "names": list(CLASSES)}}
    images = [{"bytes": png(number), "path": None} for number in range(2)]
    rows = pa.table({"image": images, "labels": [0, 1]})
    for split in ("train", "test"):
        named = rows.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
        pq.write_table(named, root / f"{split}-00000-of-00001.parquet")
    return root


def saved_dataset(root: Path) -> Path:
    """Write a data set with save_to_disk."""
    from datasets import ClassLabel, Dataset, DatasetDict, Features
    from datasets import Image as ImageFeature

    features = Features({"image": ImageFeature(), "label": ClassLabel(names=list(CLASSES))})
    rows = [{"image": {"bytes": png(number), "path": None}, "label": number} for number in range(2)]
    part = Dataset.from_list(rows, features=features)
    DatasetDict(train=part, test=part).save_to_disk(root)
    return root


def open_images(root: Path) -> Path:
    """Write a table with one row per label, as Open Images has it."""
    put(root, *(f"{number:016x}.jpg" for number in range(4)))
    rows = [(0, "cat", 1), (1, "cat", 1), (1, "dog", 1), (1, "dog", 1), (2, "dog", 1), (2, "cat", 0), (3, "dog", 0)]
    lines = (f"{number:016x},verification,{label},{confidence}" for number, label, confidence in rows)
    return write(root / "labels.csv", "ImageID,Source,LabelName,Confidence", *lines)


def excel(root: Path) -> Path:
    """Write a table as a German Excel saves it."""
    put(root, *(f"photos/{number}.jpg" for number in range(4)))
    rows = (f"photos/{number}.jpg;{CLASSES[number % 2]};;" for number in range(4))
    return write(root / "table.csv", "File Name;Class;;", *rows, ";;;", ";;;")


def windows(root: Path) -> Path:
    """Write a table with paths of Windows."""
    put(root, *(f"photos/{number}.jpg" for number in range(4)))
    rows = (f"photos\\{number}.jpg,{CLASSES[number % 2]}" for number in range(4))
    return write(root / "table.csv", "path,label", *rows)


def several_pages(root: Path) -> Path:
    """Write TIFF files with three pages each."""
    for label in CLASSES:
        (root / label).mkdir(parents=True)
        for number in range(2):
            pages = [draw(10 * number + page) for page in range(3)]
            pages[0].save(root / label / f"{number}.tif", save_all=True, append_images=pages[1:])
    return root


LAYOUTS = [
    Layout("class folders (Keras)", class_folders, Found(4, BOTH), ""),
    Layout("class folders on a file server", file_server, Found(4, BOTH),
           "thumbnails and deleted files do not belong to the data set"),
    Layout("train/ and val/", split_folders, Found(4, BOTH, {"train": 2, "val": 2}),
           "train and val are splits; as classes they would be learned"),
    Layout("Training/ and Testing/ (Kaggle)", kaggle, Found(4, BOTH, TRAIN_TEST),
           "the usual names of splits, in any case"),
    Layout("metadata.csv", metadata_csv, Found(4, BOTH), "the labels are in the file; images is no class"),
    Layout("metadata.jsonl in train/ and test/", metadata_jsonl, Found(4, BOTH, TRAIN_TEST),
           "the labels are in the files"),
    Layout("metadata.parquet", metadata_parquet, Found(4, BOTH), "the labels are in the file"),
    Layout("WebDataset", webdataset, Found(4, BOTH, TRAIN_TEST),
           "the labels are in the .cls files, also if names have dots"),
    Layout("img2dataset", img2dataset, Found(4), "captions are not labels"),
    Layout("Parquet of the hub", parquet, Found(4, BOTH, TRAIN_TEST), "the column labels has names of classes"),
    Layout("save_to_disk", saved_dataset, Found(4, BOTH, TRAIN_TEST), "the data set has names of classes and splits"),
    Layout("Open Images", open_images, Found(4, {"cat": 2, "dog": 2}),
           "an image has the labels of all its rows, except those of confidence 0"),
    Layout("CSV of Excel", excel, Found(4, BOTH), "the labels are in the table"),
    Layout("CSV with paths of Windows", windows, Found(4, BOTH), "the labels are in the table"),
    Layout("TIFF of several pages", several_pages, Found(4, BOTH, note="4 files of several pages"),
           "the first page is the image, and the summary says that there are more"),
]  # fmt: skip


def read_featx(source: Path) -> Found:
    """List a source with featx."""
    try:
        listing = list_images(source)
    except FeatxError as error:
        return Found(error=str(error))
    pages = sum(PixelRemark.PAGES in decode(listing.read(row)).remarks for row in range(len(listing)))
    summary = listing.summary
    note = f"{pages} files of several pages" if pages else ""
    return Found(summary.images, dict(summary.classes), dict(summary.splits), note=note)


def read_torchvision(folder: Path) -> Found:
    """List a folder with torchvision."""
    from torchvision.datasets import ImageFolder

    try:
        found = ImageFolder(folder)
    except Exception as error:
        return Found(error=shorten(error))
    return Found(len(found), dict(Counter(found.classes[label] for label in found.targets)))


def read_datasets(folder: Path) -> Found:
    """List a folder with Hugging Face datasets."""
    from datasets import load_dataset

    try:
        parts = load_dataset("imagefolder", data_dir=str(folder), cache_dir=str(folder.parent / "cache"))
        labels, splits = Counter[str](), Counter[str]()
        for name, part in parts.items():
            splits[name] += len(part)
            if "label" in part.features:
                names = getattr(part.features["label"], "names", None)
                labels.update(str(names[label] if names else label) for label in part["label"] if label is not None)
    except Exception as error:
        return Found(error=shorten(error))
    # datasets calls a data set without splits train.
    return Found(splits.total(), dict(sorted(labels.items())), dict(splits) if len(splits) > 1 else {})


def read_keras(folders: list[Path]) -> list[Found]:
    """List folders with Keras, in its own environment."""
    done = subprocess.run(
        [str(KERAS), str(KERAS_SCRIPT), *map(str, folders)], check=True, capture_output=True, text=True
    )
    return [Found(**found) for found in json.loads(done.stdout.splitlines()[-1])]


def keras_version() -> str:
    """Return the version of Keras in its environment."""
    code = "from importlib.metadata import version; print(version('keras'))"
    return subprocess.run([str(KERAS), "-c", code], check=True, capture_output=True, text=True).stdout.strip()


def shorten(error: Exception) -> str:
    """Return the start of an error message."""
    return re.split(r" in |[.;:!]", str(error).strip() or type(error).__name__)[0]


def compare(work: Path) -> list[dict[str, Any]]:
    """Write all layouts, and list each of them with all libraries."""
    work.mkdir(parents=True)
    sources = [layout.write(work / f"{number:02d}") for number, layout in enumerate(LAYOUTS)]
    folders = [work / f"{number:02d}" for number in range(len(LAYOUTS))]
    keras = read_keras(folders)
    return [
        {
            "layout": layout.name,
            "truth": asdict(layout.truth),
            "why": layout.why,
            "featx": asdict(read_featx(source)),
            "torchvision": asdict(read_torchvision(folder)),
            "datasets": asdict(read_datasets(folder)),
            "Keras": asdict(other),
        }
        for layout, source, folder, other in zip(LAYOUTS, sources, folders, keras, strict=True)
    ]


def main() -> None:
    """Compare, print the table and save it."""
    if len(sys.argv) != 2:
        sys.exit("usage: layouts.py WORK")
    rows = compare(Path(sys.argv[1]).resolve())
    header = ["layout", *READERS, "why featx's reading is right"]
    cells, right = [], Counter[str]()
    for row in rows:
        found = [Found(**row[reader]) for reader in READERS]
        agrees = [each.agrees(Found(**row["truth"])) for each in found]
        right.update(reader for reader, agreed in zip(READERS, agrees, strict=True) if agreed)
        shown = [
            f"**{each.describe()}**" if agreed else each.describe() for each, agreed in zip(found, agrees, strict=True)
        ]
        cells.append([row["layout"], *shown, row["why"]])
    cells.append(["read right", *(f"{right[reader]} of {len(rows)}" for reader in READERS), ""])
    where = machine()
    versions = ", ".join(f"{name} {version(name)}" for name in ("featx", "torchvision", "datasets", "pillow"))
    text = f"{where['date']}; {versions}, keras {keras_version()}.\n\n{table(header, cells).replace('---:', '---')}"
    save("layouts", {"machine": where, "rows": rows})
    publish("layouts", text)
    say(text)


if __name__ == "__main__":
    main()
