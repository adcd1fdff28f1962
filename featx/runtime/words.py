"""Words for what is counted."""


def pluralize(number: int, one: str, many: str = "") -> str:
    """A number and its noun, which is ``one`` with an s for many unless they are given."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"
