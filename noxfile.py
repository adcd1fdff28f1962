"""The oldest and the newest of what setup.cfg allows, tried: ``make matrix``, or ``nox -s oldest``.

``oldest`` installs the lower bounds of ``install_requires`` and runs the tests that need no extra but pandas;
``newest`` installs the newest releases of all, on each Python, and runs the whole suite. A Python that is not on the
machine is passed over. What passed is what setup.cfg promises.
"""

import configparser
from pathlib import Path

import nox

nox.options.error_on_missing_interpreters = False
OLDEST, *NEWER = ("3.11", "3.12", "3.13")
WITHOUT_EXTRAS = (
    "blocks", "bridge", "fit", "folds", "heads_multilabel", "images_colors", "images_golden", "images_listing",
    "images_manifest", "images_preprocessing", "images_walk", "layers", "metrics", "model", "multilabel", "normalizer",
    "pipelines", "query", "refit", "search", "solver", "spec", "store", "texts", "weights_digest", "weights_readers",
)  # fmt: skip
NEEDS = ("pytest", "hypothesis", "pandas")


def lowest() -> list[str]:
    """What setup.cfg requires, each at its lower bound."""
    setup = configparser.ConfigParser()
    setup.read(Path(__file__).with_name("setup.cfg"))
    return [line.replace(">=", "==") for line in setup["options"]["install_requires"].split()]


@nox.session(python=OLDEST)
def oldest(session: nox.Session) -> None:
    """The lower bounds, on the oldest Python."""
    session.install(*lowest(), *NEEDS)
    session.install("--no-deps", "--editable", ".")
    tests = [f"tests/test_{name}.py" for name in WITHOUT_EXTRAS]
    # What an old library warns of is not ours to mend.
    session.run("python", "-m", "pytest", "-q", "-W", "default", *(session.posargs or tests))


@nox.session(python=[OLDEST, *NEWER])
def newest(session: nox.Session) -> None:
    """The newest releases that there are."""
    session.install("--upgrade", "--upgrade-strategy", "eager", "--editable", ".[dev]")
    session.run("python", "-m", "pytest", "-q", *session.posargs)
