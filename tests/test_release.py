"""The wheel and the source distribution install and work outside the checkout, without torch."""

import os
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest
from conftest import fill

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.slow


def run(*command, **options):
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, **options)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def distributions(tmp_path_factory):
    """The wheel and the sdist, built from a copy of the checkout."""
    folder = tmp_path_factory.mktemp("release")
    tracked = run("git", "ls-files", cwd=ROOT).splitlines()
    for name in tracked:
        if (ROOT / name).is_file():
            (folder / "source" / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / "source" / name).write_bytes((ROOT / name).read_bytes())
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder / "dist", folder / "source")
    return sorted((folder / "dist").iterdir())


def test_both_distributions_hold_the_package_and_its_data(distributions):
    wheel = next(path for path in distributions if path.suffix == ".whl")
    source = next(path for path in distributions if path.name.endswith(".tar.gz"))
    with zipfile.ZipFile(wheel) as archive:
        in_wheel = set(archive.namelist())
    with tarfile.open(source) as archive:
        in_source = {name.partition("/")[2] for name in archive.getnames()}
    package = {str(path.relative_to(ROOT)) for path in (ROOT / "featx").rglob("*")
               if path.is_file() and "__pycache__" not in path.parts}  # fmt: skip
    assert package <= in_wheel
    assert package <= in_source
    assert {"README.md", "LICENSE", "setup.cfg"} <= in_source


def test_a_wheel_without_torch_extracts_fits_and_predicts(distributions, tmp_path, oxford):
    environment = tmp_path / "clean"
    venv.create(environment, with_pip=True)
    python = environment / "bin" / "python"
    wheel = next(path for path in distributions if path.suffix == ".whl")
    run(python, "-m", "pip", "install", "--quiet", wheel)
    fill(tmp_path / "photos")
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    featx = environment / "bin" / "featx"

    def typed(*arguments):
        return run(featx, *arguments, cwd=tmp_path, env=clean)

    assert "extract" in typed("--help")
    typed("extract", "photos", "-o", "photos.h5", "--size", "32")
    typed("fit", "photos.h5", "-o", "photos.featx")
    typed("predict", "photos.featx", "photos", "-o", "classes.csv")
    rows = (tmp_path / "classes.csv").read_text().splitlines()[1:]
    assert len(rows) == 24
    true_and_predicted = [(Path(row.split(",")[0]).parent.name, row.split(",")[1]) for row in rows]
    assert sum(true == predicted for true, predicted in true_and_predicted) >= 20
    assert "torch" not in run(python, "-m", "pip", "list", "--format", "freeze")
    refused = subprocess.run([featx, "predict", "photos.featx", "photos", "--engine", "torch"], cwd=tmp_path, env=clean,
                             capture_output=True, text=True)  # fmt: skip
    assert refused.returncode == 1
    assert "pip install 'featx[torch]'" in refused.stderr
