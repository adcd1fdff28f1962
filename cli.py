"""Launcher for a checkout: ``python cli.py extract …`` is ``featx extract …``."""

from featx.cli.group import main

if __name__ == "__main__":
    main(prog_name="featx")
