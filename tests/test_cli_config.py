"""Options from the environment and from a configuration file, and what the group itself does."""

import json
import logging

import pytest
from click.testing import CliRunner

from featx.cli.group import COMMANDS, SECTIONS, main


def run(*arguments, code=0, env=None):
    result = CliRunner().invoke(main, [str(each) for each in arguments], env=env)
    assert result.exit_code == code, result.output
    return result


@pytest.fixture
def config(tmp_path):
    def write(text):
        (tmp_path / "featx.toml").write_text(text)
        return tmp_path / "featx.toml"

    return write


def extracted(*arguments, env=None):
    """The facts of a store extracted with these arguments."""
    run(*arguments, env=env)
    return json.loads(run("info", arguments[-1], "--json").output)


def test_a_configuration_file_sets_the_defaults_of_a_command(config, shared_photos, tmp_path, oxford):
    file = config('[extract]\nsize = 32\nblocks = [1, 2]\npools = "avg,max"\nn-views = 2\n')
    facts = extracted("--config", file, "extract", shared_photos, "-o", tmp_path / "p.h5")
    spec = facts["spec"]
    assert (spec["size"], spec["blocks"], spec["pools"], spec["n_views"]) == (32, [1, 2], ["avg", "max"], 2)


def test_the_command_line_wins_over_the_environment_and_that_over_the_file(config, shared_photos, tmp_path, oxford):
    file = config("[extract]\nsize = 64\nblocks = 1\n")
    command = ("--config", file, "extract", shared_photos, "-o")
    by_environment = extracted(*command, tmp_path / "e.h5", env={"FEATX_EXTRACT_SIZE": "40"})
    assert by_environment["spec"]["size"] == 40
    by_line = extracted("--config", file, "extract", shared_photos, "--size", "32", "-o", tmp_path / "l.h5",
                        env={"FEATX_EXTRACT_SIZE": "40"})  # fmt: skip
    assert by_line["spec"]["size"] == 32


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[extarct]\nsize = 32\n", "must have one table per command, such as [extract], got 'extarct'"),
        ("size = 32\n", "must have one table per command, such as [extract], got 'size'"),
        ("[extract]\nsise = 32\n", "has the option 'sise', which extract does not have; see featx extract --help"),
        ("[extract\n", "cannot be read"),
    ],
)
def test_a_wrong_configuration_file_is_refused(config, text, message, tmp_path):
    result = run("--config", config(text), "extract", tmp_path, "-o", tmp_path / "p.h5", code=2)
    assert message in result.stderr


def test_a_missing_configuration_file_is_refused(tmp_path):
    assert "cannot be read" in run("--config", tmp_path / "none.toml", "info", "x", code=2).stderr


def test_a_wrong_value_in_the_configuration_file_names_the_option(config, tmp_path):
    result = run("--config", config("[extract]\nsize = 7\n"), "extract", tmp_path, "-o", tmp_path / "p.h5", code=2)
    assert "--size" in result.stderr


def test_a_configuration_file_reaches_subcommands(config):
    assert run("--config", config("[backbones.list]\njson = true\n"), "backbones", "list").output.startswith("[")


@pytest.mark.parametrize(("typed", "meant"), [("extrat", "extract"), ("reports", "report"), ("finetun", "finetune")])
def test_a_mistyped_command_gets_a_suggestion(typed, meant):
    assert f"No such command '{typed}'. Did you mean {meant}?" in run(typed, code=2).stderr


def test_a_name_like_no_command_gets_no_suggestion():
    result = run("xyzzy", code=2)
    assert "No such command 'xyzzy'." in result.stderr
    assert "Did you mean" not in result.stderr


def test_help_lists_every_command_once_in_its_section():
    output = run("--help").output
    place = 0
    for title, commands in SECTIONS.items():
        place = output.index(f"\n{title}:", place)
        for name in commands:
            place = output.index(f"\n  {name} ", place)
    assert len(COMMANDS) == sum(map(len, SECTIONS.values()))


def test_verbose_sets_the_level_of_the_log(monkeypatch):
    logger = logging.getLogger("featx")
    monkeypatch.setattr(logger, "level", logging.NOTSET)
    run("-v", "completion", "bash")
    assert logger.level == logging.INFO
    run("-vv", "completion", "bash")
    assert logger.level == logging.DEBUG


def test_the_log_tells_where_weights_come_from_and_which_engine_runs(shared_photos, tmp_path, oxford, caplog):
    with caplog.at_level(logging.INFO, logger="featx"):
        run("extract", shared_photos, "--size", "32", "--blocks", "1", "--engine", "openvino", "-o", tmp_path / "p.h5")
    assert f"backbone oxford ({oxford.digest[:12]}) from " in caplog.text
    assert "engine openvino on " in caplog.text
    assert "36 of 36 images to extract, in " in caplog.text
