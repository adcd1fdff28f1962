import re
from importlib import resources
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner

from featx.cli.group import main
from featx.drawing.figures import INK, SERIES, add_legend, make_figure, save_figure, show_percent
from featx.drawing.inline_svg import COLOR_VARIABLES, figure_to_svg
from featx.errors import ImageError


@pytest.mark.parametrize("command", [["probe"], ["advise"]])
def test_an_unknown_plot_format_is_refused_before_the_work(command, tmp_path):
    """The store does not exist: if it were opened first, the message would name it."""
    result = CliRunner().invoke(main, [*command, str(tmp_path / "no.h5"), "--plot", str(tmp_path / "plot.xyz")])
    assert result.exit_code == 1
    assert "name of a plot must end in one of ." in result.output
    assert "got 'plot.xyz'" in result.output


def test_a_plot_that_cannot_be_written_is_reported(tmp_path):
    figure, _ = make_figure("x", "y")
    with pytest.raises(ImageError, match=r"no/plot\.png cannot be written"):
        save_figure(figure, tmp_path / "no" / "plot.png")


def draw():
    figure, axes = make_figure("images", "accuracy")
    axes.errorbar([1, 2, 3], [0.5, 0.6, 0.7], [0.1, 0.1, 0.1], fmt="o-", color=SERIES[0], label="a $x$ <b>")
    axes.annotate("best", (3, 0.7), color=INK, weight="bold")
    show_percent(axes.yaxis)
    add_legend(figure, axes)
    return figure


def test_a_figure_becomes_an_svg_element_that_follows_the_page():
    text = figure_to_svg(draw(), "plot", "Accuracy & more")
    root = ElementTree.fromstring(text)
    assert (root.attrib["role"], root.attrib["aria-labelledby"]) == ("img", "plot-title")
    assert (root[0].attrib["id"], root[0].text) == ("plot-title", "Accuracy & more")
    assert "style" not in {name for element in root.iter() for name in element.attrib}
    assert not [element for element in root.iter() if element.tag.endswith(("style", "metadata", "image"))]
    assert {"var(--series-0)", "var(--ink)", "var(--soft)"} <= set(re.findall(r"var\(--[a-z0-9-]+\)", text))
    assert not re.search(r"#[0-9a-f]{6}\b", text.replace('href="#', ""))
    texts = [element.text for element in root.iter() if element.tag.endswith("text")]
    assert {"a $x$ <b>", "best", "images", "accuracy"} <= set(texts)
    assert any((text or "").endswith("\N{NO-BREAK SPACE}%") for text in texts)


def test_the_same_figure_gives_the_same_svg_and_ids_of_its_own():
    assert figure_to_svg(draw(), "plot", "title") == figure_to_svg(draw(), "plot", "title")
    ids = [set(re.findall(r' id="([^"]*)"', figure_to_svg(draw(), name, "title"))) for name in ("one", "two")]
    assert not ids[0] & ids[1]


def test_the_page_defines_each_color_of_figures_for_both_themes():
    """The light theme has the colors of figures that are written to files."""
    style = (resources.files("featx.inspection") / "html_report" / "templates" / "style.css").read_text()
    light, dark = style.split("prefers-color-scheme: dark", 1)
    for color, variable in COLOR_VARIABLES.items():
        (value,) = re.findall(rf"{variable}: (#[0-9a-f]+);", light)
        assert color == (value if len(value) == 7 else "#" + "".join(2 * digit for digit in value[1:]))
        assert len(re.findall(rf"{variable}: #[0-9a-f]+;", dark)) == 1
