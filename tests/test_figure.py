import pytest
from click.testing import CliRunner

from featx.cli.group import main
from featx.drawing.figures import make_figure, save_figure
from featx.errors import ImageError


@pytest.mark.parametrize("command", [["probe"], ["advise"]])
def test_a_plot_of_unknown_format_is_refused_before_the_work(command, tmp_path):
    """The store is not even there: its name would be the message if the plot's were looked at later."""
    result = CliRunner().invoke(main, [*command, str(tmp_path / "no.h5"), "--plot", str(tmp_path / "plot.xyz")])
    assert result.exit_code == 1
    assert "name of a plot must end in one of ." in result.output
    assert "got 'plot.xyz'" in result.output


def test_curves_of_unknown_format_are_refused_before_the_training(tmp_path):
    command = ["finetune", "no.featx", "no.h5", "-o", str(tmp_path / "t.featx"), "--root", str(tmp_path)]
    result = CliRunner().invoke(main, [*command, "--plot", str(tmp_path / "curves.xyz")])
    assert result.exit_code == 1
    assert "name of a plot must end in one of ." in result.output


def test_a_plot_that_cannot_be_written_says_so(tmp_path):
    figure, _ = make_figure("x", "y")
    with pytest.raises(ImageError, match=r"no/plot\.png cannot be written"):
        save_figure(figure, tmp_path / "no" / "plot.png")
