"""Open gray TIFF files of kinds that Pillow could decode but refuses."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from io import BytesIO
from typing import Any

from PIL import Image, ImageFile, TiffImagePlugin

from featx.images.decoding.tiles import raw_mode, with_raw_mode

BITS, PHOTOMETRIC, SAMPLES, PLANES, SAMPLE_FORMAT = 258, 262, 277, 284, 339
SEPARATE = 2
"""Value of the tag ``PlanarConfiguration`` if each band has its own strips."""
WHITE_IS_ZERO, BLACK_IS_ZERO = 0, 1
"""Values of the tag ``PhotometricInterpretation`` of gray images."""
UNSIGNED, SIGNED, FLOAT, UNDEFINED = 1, 2, 3, 4
"""Values of the tag ``SampleFormat``."""
FORMATS = {UNSIGNED: "unsigned integers", SIGNED: "signed integers", FLOAT: "floats"}
BIG_ENDIAN = b"MM"
OPENED_AS: dict[tuple[int, int], dict[int, tuple[int]]] = {
    (8, SIGNED): {SAMPLE_FORMAT: (UNSIGNED,)},
    (12, UNSIGNED): {BITS: (16,)},
    (16, FLOAT): {SAMPLE_FORMAT: (UNSIGNED,)},
    (32, UNSIGNED): {SAMPLE_FORMAT: (SIGNED,)},
    (64, FLOAT): {BITS: (32,)},
}
"""Tags with which Pillow opens gray images, by number of bits and sample format."""


class UnknownKind(Exception):
    """Raised if a file is intact, but is of a kind that Pillow cannot decode."""


class TiffFile(TiffImagePlugin.TiffImageFile):
    """A TIFF file that Pillow can open with other tags than its own.

    Pillow accepts only some combinations of tags. For example, it opens 16-bit gray in which 0 is white only if the
    file is little-endian. So the file is opened as if it had other tags, with which Pillow reads the same bytes. After
    opening, the file has its own tags again. They say what the numbers mean (`featx.images.pixels.sample_values`).
    """

    def _setup(self) -> None:
        tags: Mapping[int, Any] = self.tag_v2
        photometric = tags.get(PHOTOMETRIC, WHITE_IS_ZERO)
        bits, formats = _as_tuple(tags.get(BITS, 1)), set(_as_tuple(tags.get(SAMPLE_FORMAT, UNSIGNED)))
        changes: dict[int, Any] = {}
        if formats == {UNDEFINED}:
            formats, changes = {UNSIGNED}, {SAMPLE_FORMAT: (UNSIGNED,)}
        kind = 0, 0
        if photometric in (WHITE_IS_ZERO, BLACK_IS_ZERO) and tags.get(SAMPLES, 1) == len(bits) == len(formats) == 1:
            kind = bits[0], formats.pop()
        # Pillow itself inverts unsigned integers of up to 8 bits.
        wide = kind[0] > 8 or kind == (8, SIGNED)
        if wide:
            changes |= {PHOTOMETRIC: BLACK_IS_ZERO, **OPENED_AS.get(kind, {})}
        with self._changed(changes):
            try:
                super()._setup()
            except SyntaxError as error:
                if "mode" not in str(error):
                    raise
                raise UnknownKind(self._describe(bits, formats or {kind[1]}, photometric)) from error
        big_endian = self.tag_v2.prefix == BIG_ENDIAN
        if wide and (wide_mode := _raw_mode(*kind, libtiff=self.use_load_libtiff, big_endian=big_endian)):
            self._mode = "I;16" if bits == (12,) else self._mode
            opened_bits = OPENED_AS.get(kind, {}).get(BITS, (kind[0],))[0]
            self.tile = [with_raw_mode(tile, wide_mode, kind[0] / opened_bits) for tile in self.tile]
        elif len(bits) > 1 and bits[0] == 16 and tags.get(PLANES) == SEPARATE and not self.use_load_libtiff:
            # Pillow would read the bands as if they had 8 bits.
            self.tile = [with_raw_mode(tile, f"{raw_mode(tile)};16{'B' if big_endian else 'L'}") for tile in self.tile]

    @contextmanager
    def _changed(self, changes: Mapping[int, Any]) -> Iterator[None]:
        """Change the values of some tags until the ``with`` block ends."""
        before = {tag: self.tag_v2.get(tag) for tag in changes}
        self.tag_v2.update(changes)
        try:
            yield
        finally:
            for tag, value in before.items():
                if value is None:
                    del self.tag_v2[tag]
                else:
                    self.tag_v2[tag] = value

    @staticmethod
    def _describe(bits: tuple[int, ...], formats: set[int], photometric: object) -> str:
        named = ", ".join(FORMATS.get(form, f"sample format {form}") for form in sorted(formats))
        per_pixel = " + ".join(map(str, bits))
        return (
            f"{per_pixel} bits per pixel, {named}, photometric interpretation {photometric}; convert it to 8 or 16 bits"
        )


def open_function(name: str) -> Callable[[BytesIO, str], ImageFile.ImageFile]:
    """Return the function that opens a format, by Pillow's name of the format: `TiffFile`, or Pillow's function."""
    function = Image.OPEN[name][0]
    return TiffFile if function is TiffImagePlugin.TiffImageFile else function


def _as_tuple(value: Any) -> tuple[int, ...]:
    return value if isinstance(value, tuple) else (value,)


def _raw_mode(bits: int, form: int, *, libtiff: bool, big_endian: bool) -> str | None:
    """Return the raw mode with which Pillow must read an image, or None if Pillow's own choice is right."""
    if bits == 12:
        return "I;12"
    if not libtiff:
        return f"F;64{'B' * big_endian}F" if bits == 64 else None
    # libtiff returns numbers in the byte order of the machine, but Pillow reads these types in the order of the file.
    letter = {SIGNED: "S", UNSIGNED: "S", FLOAT: "F"}.get(form, "")
    if bits in (32, 64):
        return f"{'F' if form == FLOAT else 'I'};{bits}N{letter}"
    return "I;16NS" if (bits, form) == (16, SIGNED) else None
