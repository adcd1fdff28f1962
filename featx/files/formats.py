"""Choose the format of an output file by an option or by the suffix of the file."""

from collections.abc import Mapping
from pathlib import Path

from featx.errors import SpecError


def infer_format(
    path: Path | None, format: str | None, suffixes: Mapping[str, str], option: str, default: str = ""
) -> str:
    """Choose the format of an output file.

    Parameters
    ----------
    path : Path, optional
        The output file.
    format : str, optional
        The format that the user asked for. By default the suffix of ``path`` decides.
    suffixes : mapping of str to str
        The suffix of each format: ``{"csv": ".csv"}``.
    option : str
        The name of the option in error messages: ``"--format of export"``.
    default : str
        The format to choose if ``format`` is not given and the suffix is not that of a known format.

    Raises
    ------
    SpecError
        If no format can be chosen, or the suffix belongs to another format.
    """
    suffix = path.suffix.lower() if path else ""
    inferred = next((known for known, ending in suffixes.items() if ending == suffix), None)
    chosen = format or inferred or default or suffix
    if chosen not in suffixes:
        raise SpecError(f"{option} must be one of {', '.join(suffixes)}, got {chosen!r}")
    if inferred not in (None, chosen):
        raise SpecError(
            f"{option} must be {inferred} for a file that ends in {suffix}, got {chosen}; "
            f"name the file ….{suffixes[chosen].removeprefix('.')}, or leave out {option.partition(' ')[0]}"
        )
    return chosen
