"""Run the commands of a documentation page and put their output below them.

A page that starts with ``<!-- run -->`` is run from top to bottom, in a new folder that contains only the images of
`prepare`. A ``console`` block is run line by line (``$ featx …``), and a ``python`` block is run as one program. The
output of a block is shown below it. Images that a block writes (``-o depth.png``) are copied to ``docs/made/PAGE/``. A
command that fails stops the build. So a page shows what featx prints today, and every page is a test.
"""

import contextlib
import csv
import io
import os
import re
import shlex
import shutil
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from click.testing import CliRunner
from PIL import Image
from sklearn.datasets import load_digits

from featx.cli import main

RUN = "<!-- run -->"
BLOCK = re.compile(r"^```(console|python)\n(.*?)^```\n", re.MULTILINE | re.DOTALL)
PICTURES = (".png", ".svg")
ENVIRONMENT = {"FEATX_EXTRACT_SIZE": "64", "COLUMNS": "100"}
"""The image size is small, so that the pages build in minutes; `docs/how-to/index.md` says so to the reader."""
COUNT = 300


@dataclass(frozen=True)
class Block:
    """A fenced block of a page, with its language, its text, and the position of its end in the page."""

    language: str
    code: str
    end: int

    @property
    def commands(self) -> list[str]:
        """The command lines of a console block; a line that ends in a backslash is joined with the next one."""
        lines = self.code.replace("\\\n", " ").splitlines()
        return [line[2:] for line in lines if line.startswith("$ ")]


def blocks_of(text: str) -> list[Block]:
    """Find the console and Python blocks of a page."""
    return [Block(found[1], found[2], found.end()) for found in BLOCK.finditer(text)]


def prepare(folder: Path) -> None:
    """Write the images that the pages use: handwritten digits as ``photos``, ``new``, ``test`` and ``one.png``."""
    digits = load_digits()
    rows = [("path", "label", "split", "weight")]
    for number, (pixels, digit) in enumerate(zip(digits.images, digits.target, strict=True)):
        image = Image.fromarray((pixels * 255 / 16).astype("uint8")).resize((64, 64), Image.Resampling.BICUBIC)
        if number < COUNT:
            place = Path("photos", str(digit))
            split = "test" if number % 4 == 0 else "train"
            rows.append((f"{digit}/{number:04}.png", str(digit), split, "1" if number % 2 else "0.5"))
        elif number < COUNT + 60:
            place = Path("test", str(digit))
        elif number < COUNT + 80:
            place = Path("new")
        else:
            break
        (folder / place).mkdir(parents=True, exist_ok=True)
        image.save(folder / place / f"{number:04}.png")
    shutil.copy(next((folder / "new").iterdir()), folder / "one.png")
    with (folder / "manifest.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)


@contextlib.contextmanager
def _inside(folder: Path, environment: Mapping[str, str]) -> Iterator[None]:
    before, here = dict(os.environ), Path.cwd()
    os.environ.update(environment)
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(here)
        os.environ.clear()
        os.environ.update(before)


def _run_command(line: str) -> str:
    name, *arguments = shlex.split(line, comments=True)
    if name != "featx":
        return ""
    result = CliRunner().invoke(main, arguments)
    if result.exit_code not in (0, 3):
        raise RuntimeError(f"$ {line}\n{result.output}\n{''.join(traceback.format_exception(result.exception))}")
    return result.output


def _run_python(code: str, variables: dict[str, object]) -> str:
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, "page", "exec"), variables)
    return printed.getvalue()


def run_page(text: str, folder: Path) -> list[str]:
    """Run the blocks of a page in ``folder``, one after the other, and return the output of each."""
    prepare(folder)
    variables: dict[str, object] = {}
    with _inside(folder, ENVIRONMENT):
        return [
            _run_python(block.code, variables)
            if block.language == "python"
            else "".join(map(_run_command, block.commands))
            for block in blocks_of(text)
        ]


def with_output(text: str, outputs: list[str]) -> str:
    """Insert the output of each block of a page below the block."""
    for block, output in reversed(list(zip(blocks_of(text), outputs, strict=True))):
        if output.strip():
            shown = f"\n```{{code-block}} text\n:class: output\n\n{output.strip()}\n```\n"
            text = text[: block.end] + shown + text[block.end :]
    return text


def copy_pictures(folder: Path, target: Path) -> None:
    """Copy the images that the commands of a page wrote to the folder in which the page looks for them."""
    target.mkdir(parents=True, exist_ok=True)
    for path in folder.iterdir():
        if path.suffix in PICTURES and path.name != "one.png":
            shutil.copy(path, target / path.name)
