"""Which format a file is to have: what is asked for, or what its name says."""

from collections.abc import Mapping
from pathlib import Path

from featx.errors import SpecError


def infer_format(
    path: Path | None, form: str | None, suffixes: Mapping[str, str], option: str, default: str = ""
) -> str:
    """The format that is asked for, else that of the path's suffix, else the default.

    Raises
    ------
    SpecError
        If there is none such, or the suffix is that of another.
    """
    suffix = path.suffix.lower() if path else ""
    said = next((known for known, ending in suffixes.items() if ending == suffix), None)
    form = form or said or default or suffix
    if form not in suffixes:
        raise SpecError(f"{option} must be one of {', '.join(suffixes)}, got {form!r}")
    if said not in (None, form):
        raise SpecError(f"{option} must be {said} for a file that ends in {suffix}, got {form}; end it in "
                        f"{suffixes[form]}, or leave {option.partition(' ')[0]} out")  # fmt: skip
    return form
