"""Pillow plugins that a program registers: they are seen at once, and also in the processes that decode."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

TOY = """
from PIL import Image, ImageFile

class ToyFile(ImageFile.ImageFile):
    format = "TOY{name}"

    def _open(self):
        assert self.fp.read(4) == b"{magic}"
        self._size, self._mode = (8, 8), "RGB"
        self.tile = [ImageFile._Tile("raw", (0, 0, 8, 8), 4, ("RGB", 0, 1))]

def accept(prefix):
    return prefix.startswith(b"{magic}")

def register():
    Image.register_open("TOY{name}", ToyFile, accept)
    Image.register_extension("TOY{name}", ".toy{suffix}")
"""
LIST = """
from pathlib import Path
from PIL import Image
from featx import list_images

root = Path("images")
before = list(list_images(root).paths)
"""


def write_images(tmp_path: Path, magic: bytes, suffix: str = "") -> Path:
    root = tmp_path / "images"
    (root / "a").mkdir(parents=True)
    for number in range(2):
        (root / f"a/{number}.TOY{suffix}").write_bytes(magic + bytes(range(192)))
    from PIL import Image

    Image.new("RGB", (8, 8)).save(root / "a/plain.png")
    return root


def run(tmp_path: Path, code: str, **environment: str) -> dict[str, object]:
    """Run code in a new process, in which no plugin is registered yet; return the JSON that it prints."""
    paths = [str(tmp_path), str(Path(__file__).parents[1])]
    variables = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), **environment}
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=variables)
    assert done.returncode == 0, done.stderr
    result: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return result


def test_a_plugin_that_is_registered_after_a_listing_is_seen(tmp_path):
    write_images(tmp_path, b"TOYA")
    (tmp_path / "toy.py").write_text(TOY.format(name="A", magic="TOYA", suffix=""))
    code = LIST + "import toy, json; toy.register(); print(json.dumps([before, list(list_images(root).paths)]))"
    assert run(tmp_path, code) == [["a/plain.png"], ["a/0.TOY", "a/1.TOY", "a/plain.png"]]


DECODE = """
import json
from featx.images import load_images
from featx.spec import ExtractSpec

listing = list_images(root)
images = list(load_images(listing, range(len(listing)), ExtractSpec(size=32), 1, processes=True))
print(json.dumps([[image.path, image.reason, image.pixels is not None] for image in images]))
"""


@pytest.mark.parametrize("registers", ["when it is called", "when it is imported"])
def test_decoding_processes_have_the_plugins_of_their_parent(tmp_path, registers):
    write_images(tmp_path, b"TOYB")
    source = TOY.format(name="B", magic="TOYB", suffix="")
    (tmp_path / "toy.py").write_text(source if registers == "when it is called" else source + "\nregister()\n")
    code = LIST + "import toy; toy.register()\n" + DECODE
    assert run(tmp_path, code) == [[path, "", True] for path in ("a/0.TOY", "a/1.TOY", "a/plain.png")]


def test_a_plugin_that_a_process_cannot_import_is_said(tmp_path):
    write_images(tmp_path, b"TOYC")
    code = TOY.format(name="C", magic="TOYC", suffix="") + "register()\n" + LIST + (
        "import warnings\nwarnings.simplefilter('always')\n"
        "caught = warnings.catch_warnings(record=True); found = caught.__enter__()\n" + DECODE +
        "print(json.dumps([str(each.message) for each in found]))"
    )  # fmt: skip
    (message,) = run(tmp_path, code)
    assert "cannot read TOYC: the Pillow plugin must be in a module that another process can import" in message


def test_pillow_heif_is_registered_where_it_is_installed(tmp_path):
    """A module of the same name and function stands for the package, which the tests do not need."""
    write_images(tmp_path, b"TOYD", "")
    source = TOY.format(name="D", magic="TOYD", suffix="").replace("def register()", "def register_heif_opener()")
    (tmp_path / "pillow_heif.py").write_text(source)
    code = LIST + DECODE
    assert run(tmp_path, code) == [[path, "", True] for path in ("a/0.TOY", "a/1.TOY", "a/plain.png")]


def test_a_ray_actor_has_the_plugins_of_the_driver(tmp_path):
    (tmp_path / "toy.py").write_text(TOY.format(name="E", magic="TOYE", suffix="e"))
    code = """
import json, pickle, subprocess, sys
import toy
from featx.extraction.ray_actor import ProcessEnvironment
toy.register()
environment = pickle.dumps(ProcessEnvironment.current())
actor = f"import pickle; pickle.loads({environment!r}).apply(); from featx.images import image_suffixes; "
actor += "print('.toye' in image_suffixes())"
print(json.dumps(subprocess.run([sys.executable, "-c", actor], capture_output=True, text=True).stdout.strip()))
"""
    assert run(tmp_path, code) == "True"
