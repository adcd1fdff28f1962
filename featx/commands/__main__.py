"""``python -m featx.commands`` is ``featx``, for where the console script is not on the path."""

from featx.commands import main

main(prog_name="featx")
