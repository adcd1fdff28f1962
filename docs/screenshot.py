"""Take the screenshot of a report for README.md and docs/index.md: ``python docs/screenshot.py``.

The script needs Chromium (``make browser``), so the build of the site does not run it. Run it by hand when the report
changes, and commit the new screenshot.
"""

import contextlib
import io
import shutil
import sys
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

sys.path.insert(0, str(Path(__file__).parent))
from pictures import run, write_digits

TARGET = Path(__file__).with_name("report.png")
BROWSERS = ("chromium-headless-shell", "chromium", "google-chrome")


def main() -> None:
    """Write a report of handwritten digits, open it, and save a picture of its top and its confusion matrix."""
    browser = next(path for path in map(shutil.which, BROWSERS) if path)
    with tempfile.TemporaryDirectory() as name, contextlib.chdir(name), sync_playwright() as playwright:
        write_digits(Path("digits"), 600)
        run("extract", "digits", "-o", "digits.h5", "--size", 64, "-q")
        run("fit", "digits.h5", "-o", "digits.featx", "--head", "softmax", "--test-size", 0.25, "-q")
        run("report", "digits.featx", "-o", "report.html", "--root", "digits", "-q")
        page = playwright.chromium.launch(executable_path=browser).new_page(
            viewport={"width": 1200, "height": 800}, color_scheme="light"
        )
        page.goto(Path("report.html").resolve().as_uri())
        top = page.screenshot(clip={"x": 0, "y": 0, "width": 1200, "height": 310})
        page.locator("#confusion").scroll_into_view_if_needed()
        below = page.locator("#confusion").screenshot()
    images = [Image.open(io.BytesIO(data)).convert("RGB") for data in (top, below)]
    joined = Image.new("RGB", (1200, sum(image.height for image in images)), images[0].getpixel((0, 0)))
    joined.paste(images[0], (0, 0))
    joined.paste(images[1], (1200 - images[1].width - 56, images[0].height))
    joined.quantize(128).save(TARGET, optimize=True)


if __name__ == "__main__":
    main()
