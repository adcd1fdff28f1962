"""The commands of the documentation work: the README runs, and every command line has known options.

The other pages are run by the build of the site, see `docs/live_pages.py`.
"""

import configparser
import re
import shlex
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from conftest import draw

from featx.cli.group import COMMANDS, main

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "docs"))
import live_pages  # noqa: E402

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
LINE = re.compile(r"^\$ featx (.*)$", re.MULTILINE)


def lines_of(text):
    """Yield the arguments of each ``$ featx`` line, without comments and with continued lines joined."""
    for line in LINE.findall(text.replace("\\\n", " ")):
        yield shlex.split(line, comments=True)


LINES = [(page, arguments) for page in PAGES for arguments in lines_of(page.read_text(encoding="utf-8"))]


@pytest.mark.parametrize(
    "page_and_arguments",
    LINES,
    ids=lambda pair: f"{pair[0].stem}: {' '.join(pair[1])}".encode("ascii", "ignore").decode(),
)
def test_every_command_line_has_known_options(page_and_arguments):
    _, (name, *arguments) = page_and_arguments
    assert name in COMMANDS
    command = main.get_command(click.Context(main), name)
    while isinstance(command, click.Group):
        command, arguments = command.commands[arguments[0]], arguments[1:]
    context = click.Context(command, info_name=name)
    given, left, _ = command.make_parser(context).parse_args(arguments)
    assert not left
    for parameter in command.params:
        if parameter.name in given and not isinstance(parameter.type, click.Path):
            parameter.type_cast_value(context, given[parameter.name])


def test_there_are_command_lines_to_check():
    assert len(LINES) > 40
    assert len({arguments[0] for _, arguments in LINES}) >= 10


SMALLER = {"extract": ["--size", "32"], "fit": ["--folds", "3"]}
"""Options that make a command of the README faster; if an option is given twice, click uses the last one."""


@pytest.fixture
def garden(tmp_path, monkeypatch):
    """Change to a folder with all files that the commands of the README read."""
    monkeypatch.chdir(tmp_path)
    for code, name in enumerate(("daisy", "iris", "rose")):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(1, 9):
            draw(code, 100 * code + number).save(f"photos/{name}/{number}.jpg")
    Path("new").mkdir()
    draw(0, 7).save("new/a.jpg")
    return tmp_path


@pytest.mark.slow
def test_readme_runs_from_top_to_bottom(garden, oxford, capsys):
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    commands = []
    for name, *arguments in lines_of(text):
        result = CliRunner().invoke(main, [name, *arguments, *SMALLER.get(name, ())])
        assert result.exit_code == 0, (name, arguments, result.output, result.exception)
        commands.append(name)
    assert commands == ["extract", "fit", "predict"]
    for code in re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        exec(compile(code, "README.md", "exec"), {})
    assert "a.jpg" in capsys.readouterr().out


def test_readme_is_short():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) < 150


def test_readme_says_what_each_extra_is_for():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    install = (ROOT / "README.md").read_text(encoding="utf-8").partition("## Install")[2].partition("\n## ")[0]
    for extra in set(setup["options.extras_require"]) - {"docs", "dev"}:
        assert f"`{extra}`" in install or f"featx[{extra}]" in install, extra


PAGE = """<!-- run -->
# A page

```console
$ featx info photos/0/0000.png
```

```python
print("three", 1 + 2)
```

```text
not run
```
"""


def test_a_live_page_shows_what_its_blocks_print(tmp_path):
    text = PAGE.replace("info photos/0/0000.png", "backbones list")
    outputs = live_pages.run_page(text, tmp_path)
    assert len(outputs) == 2
    assert "oxford" in outputs[0]
    assert outputs[1] == "three 3\n"
    shown = live_pages.with_output(text, outputs)
    assert shown.index("$ featx backbones list") < shown.index(outputs[0].strip()) < shown.index("print(")
    assert shown.index("print(") < shown.index("three 3") < shown.index("not run")


def test_a_live_page_with_a_failing_command_stops_the_build(tmp_path):
    with pytest.raises(RuntimeError, match=r"featx info photos/0/0000\.png"):
        live_pages.run_page(PAGE, tmp_path)


def test_images_that_a_page_writes_are_copied(tmp_path):
    (tmp_path / "a.png").write_bytes(b"1")
    (tmp_path / "one.png").write_bytes(b"2")
    live_pages.copy_pictures(tmp_path, tmp_path / "made")
    assert [path.name for path in (tmp_path / "made").iterdir()] == ["a.png"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_image_of_a_page_exists_or_is_drawn(page):
    for target in re.findall(r"!\[[^]]+\]\(([^)]+)\)", page.read_text(encoding="utf-8")):
        folder, name = target.rsplit("/", 1) if "/" in target else ("", target)
        if folder.endswith("made"):
            assert f'"{name}"' in (ROOT / "docs" / "pictures.py").read_text(), target
        elif "made/" in folder:
            assert name in page.read_text(encoding="utf-8").replace(target, ""), target
        else:
            assert (page.parent / target).is_file(), target
