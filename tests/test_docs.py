"""What the documentation tells a person to type works: the tutorial runs, and every command line has known options."""

import configparser
import re
import shlex
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from conftest import draw, fill

import featx
from featx.cli.group import COMMANDS, main

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
LINE = re.compile(r"^\$ featx (.*)$", re.MULTILINE)


def lines_of(text):
    """The arguments of each ``$ featx`` line; comments are cut off, and lines that go on are joined."""
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


SMALLER = {
    "extract": ["--size", "32"],
    "views": ["--size", "32"],
    "fit": ["--folds", "3"],
    "audit": ["--size", "32", "--folds", "3"],
    "finetune": ["--epochs", "1"],
}
"""What is added to a command of README's, of which the last counts: the same, in less time."""


def run_line(name, *arguments):
    if outputs := [arguments[place + 1] for place, word in enumerate(arguments) if word == "-o"]:
        assert not Path(outputs[0]).exists(), f"{outputs[0]} is written twice"
    result = CliRunner().invoke(main, [name, *arguments, *SMALLER.get(name, ())])
    assert result.exit_code == 0, (name, arguments, result.output, result.exception)


@pytest.fixture
def garden(tmp_path, monkeypatch):
    """A folder with all that README's lines read: the current one."""
    monkeypatch.chdir(tmp_path)
    rows = ["path,label,split"]
    for code, name in enumerate(("daisy", "iris", "rose")):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(1, 12):
            draw(code, 100 * code + number).save(f"photos/{name}/{number}.jpg")
            rows.append(f"{name}/{number}.jpg,{name},{'test' if number < 3 else 'train'}")
    Path("manifest.csv").write_text("\n".join(rows))
    Path("new").mkdir()
    draw(0, 7).save("new/a.jpg")
    draw(1, 8).save("one.jpg")
    return tmp_path


def test_readme_runs_from_top_to_bottom(garden, oxford):
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    written = set()
    for name, *arguments in lines_of(text):
        if name == "backbones":
            continue
        run_line(name, *arguments)
        written |= {name}
    assert {"extract", "fit", "predict", "report", "finetune", "curves", "merge", "export"} <= written
    paths = [str(path) for path in sorted(Path("photos").rglob("[1-3].jpg"))]
    given = {"train_paths": paths, "train_labels": [Path(path).parent.name for path in paths], "test_paths": paths[:2]}
    for code in re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        exec(compile(code, "README.md", "exec"), given)
    assert list(given["pipeline"].predict(paths[:1])) == ["daisy"]
    assert featx.load_model("trained.featx").classes == ("daisy", "iris", "rose")


def test_the_page_of_fine_tuning_runs(garden, oxford):
    """After what it includes of README, of which only the tuned model that it scores is made here."""
    for code, name in enumerate(("daisy", "iris", "rose")):
        Path("test", name).mkdir(parents=True)
        draw(code, 900 + code).save(f"test/{name}/1.jpg")
    for line in (
        "extract photos -o views.h5 --n-views 2 --augment flip",
        "fit views.h5 -o start.featx --head softmax --blocks 5 --C 1",
        # From a random head, so that another backbone is better than the one it began with.
        "finetune start.featx views.h5 -o tuned.featx --root photos --init random",
    ):
        run_line(*line.split())
    for name, *arguments in lines_of((ROOT / "docs" / "how-to" / "finetune.md").read_text(encoding="utf-8")):
        run_line(name, *arguments)


def test_readme_says_what_each_extra_is_for():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    rows = [line for line in (ROOT / "README.md").read_text(encoding="utf-8").splitlines() if line.startswith("| `")]
    for extra in set(setup["options.extras_require"]) - {"all", "docs", "dev"}:
        assert any(f"`{extra}`" in row.split("|")[1] for row in rows), extra


def test_the_tutorial_runs(tmp_path, monkeypatch, oxford, capsys):
    monkeypatch.chdir(tmp_path)
    fill(tmp_path / "photos", each=8)
    text = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
    said = {}
    for arguments in lines_of(text):
        result = CliRunner().invoke(main, arguments)
        assert result.exit_code == 0, (arguments, result.output, result.exception)
        said[arguments[0]] = result.output
    assert list(said) == ["extract", "info", "probe", "fit", "evaluate", "explain", "predict", "export"]
    assert "accuracy" in said["evaluate"]
    (code,) = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    exec(compile(code, "tutorial.md", "exec"), {})
    name, probability = capsys.readouterr().out.strip().strip("()").split(", ")
    assert name == "'red'"
    assert float(probability) > 0.5
