"""Test with the oldest and the newest releases that setup.cfg allows: ``make matrix``, or ``nox -s oldest``.

``oldest`` installs the lower bounds of ``install_requires`` and runs the tests marked ``core``, which need no extra.
``newest`` installs the newest releases of everything, on each Python, and runs all tests. A Python that is not
installed is skipped.
"""

import configparser
from pathlib import Path

import nox

nox.options.error_on_missing_interpreters = False
OLDEST, *NEWER = ("3.11", "3.12", "3.13")
TEST_PACKAGES = ("pytest", "hypothesis", "pandas")


def lower_bounds() -> list[str]:
    """Return the requirements of setup.cfg, each at its lower bound."""
    setup = configparser.ConfigParser()
    setup.read(Path(__file__).with_name("setup.cfg"))
    return [line.replace(">=", "==") for line in setup["options"]["install_requires"].split()]


@nox.session(python=OLDEST)
def oldest(session: nox.Session) -> None:
    """Test the lower bounds on the oldest Python."""
    session.install(*lower_bounds(), *TEST_PACKAGES)
    session.install("--no-deps", "--editable", ".")
    # Old releases warn of things that featx cannot change, so warnings are not errors here.
    session.run("python", "-m", "pytest", "-q", "-W", "default", "-m", "core", *session.posargs)


@nox.session(python=[OLDEST, *NEWER])
def newest(session: nox.Session) -> None:
    """Test the newest releases."""
    session.install("--upgrade", "--upgrade-strategy", "eager", "--editable", ".[dev]")
    session.run("python", "-m", "pytest", "-q", *session.posargs)
