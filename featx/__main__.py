"""``python -m featx`` is ``featx``, for where the console script is not on the path."""

from featx.cli import main

# A process that it starts anew may import this module.
if __name__ == "__main__":
    main(prog_name="featx")
