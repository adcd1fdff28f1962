"""``python -m featx`` is ``featx``."""

from featx.commands import main

main(prog_name="featx")
