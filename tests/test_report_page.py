"""The report page, opened from disk in a browser."""

import json
import re
import shutil

import pytest
from conftest import HOSTILE_CLASS, HOSTILE_FILE
from playwright.sync_api import sync_playwright

from featx.inspection.html_report.writer import report

pytestmark = pytest.mark.slow

CHROMIUMS = ("chromium-headless-shell", "chromium", "google-chrome")
NAMES = ("extraction", "accuracy", "depth", "advice", "confusion", "classes", "reliability", "mistakes", "suspects",
         "image_map", "finetuning", "commands")  # fmt: skip
DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}


@pytest.fixture(scope="module")
def written(hostile_model, tmp_path_factory):
    """The report of a model, with the log of a fine-tuning."""
    folder = tmp_path_factory.mktemp("report")
    log = folder / "tuned.featx.finetune"
    log.mkdir()
    rows = [{"epoch": epoch, "stage": "backbone", "train_loss": 1.0, "train_accuracy": 0.5 + 0.1 * epoch,
             "val_loss": 1.0, "val_accuracy": 0.6 + 0.1 * epoch, "learning_rate": 1e-3,
             "backbone_learning_rate": 1e-5, "seconds": 2.0}
            for epoch in range(4)]  # fmt: skip
    (log / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return report(hostile_model, folder / "report.html", root=hostile_model.parent / "images", finetune=[log])


@pytest.fixture(scope="module")
def browser():
    """Chromium; ``make browser`` installs it, and without it these tests fail."""
    found = next(filter(None, map(shutil.which, CHROMIUMS)), None)
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=found)
        yield running
        running.close()


class Opened:
    """A page, its errors, and every address that it requested."""

    def __init__(self, browser, file, **options):
        self.page = browser.new_context(reduced_motion="reduce", **options).new_page()
        self.errors, self.requests = [], []
        self.page.on("console", lambda message: self.errors.append(message.text))
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("dialog", lambda dialog: (self.errors.append(dialog.message), dialog.dismiss()))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(f"file://{file}")

    def addresses(self):
        return [url for url in self.requests if not url.startswith(("data:", "file:"))]


@pytest.fixture(scope="module")
def opened(browser, written):
    return Opened(browser, written.path, viewport=DESKTOP)


@pytest.fixture
def page(opened):
    return opened.page


def test_every_section_is_there(page, written):
    assert written.sections == NAMES
    assert written.missing == {}
    found = page.eval_on_selector_all("main section[id]", "all => all.map(one => one.id)")
    assert tuple(found) == NAMES
    assert page.locator("section .note").count() == 0
    for name in NAMES:
        assert page.locator(f"nav a[href='#{name}']").is_visible()
        assert page.locator(f"#{name} h2").is_visible()
        assert page.locator(f"#{name}").bounding_box()["height"] > 120


def test_a_confusion_cell_shows_its_images(page):
    cell = page.get_by_role("button", name="2 images of green classified as red: show them").last
    cell.click()
    gallery = page.locator("#confusion .gallery")
    assert gallery.locator("h3").inner_text() == "2 images of green classified as red"
    assert sorted(gallery.locator(".path").all_inner_texts()) == sorted([HOSTILE_FILE, "2-1.png"])
    shown = gallery.locator("img")
    assert shown.count() == 2
    assert shown.evaluate_all("all => all.every(one => one.naturalWidth > 0)")
    assert cell.get_attribute("aria-pressed") == "true"


def test_a_confusion_cell_works_by_keyboard(page):
    cell = page.get_by_role("button", name=f"4 images of {HOSTILE_CLASS} classified correctly: show them")
    cell.focus()
    page.keyboard.press("Enter")
    gallery = page.locator("#confusion .gallery")
    assert gallery.locator("h3").inner_text() == f"4 images of {HOSTILE_CLASS} classified correctly"
    assert sorted(gallery.locator(".path").all_inner_texts()) == [f"0-{number}.png" for number in range(4)]
    assert page.locator("#confusion [aria-pressed=true]").count() == 1


def test_a_table_sorts_by_any_column(page):
    table = page.locator("#classes table")
    rows = table.locator("tbody th")
    table.get_by_role("button", name="Class", exact=True).click()
    assert rows.all_inner_texts() == [HOSTILE_CLASS, "green", "red"]
    heading = table.get_by_role("button", name="Images")
    heading.click()
    counts = table.locator("tbody td:nth-child(2)").all_inner_texts()
    assert list(map(int, counts)) == sorted(map(int, counts)) == [2, 4, 6]
    heading.click()
    assert list(map(int, table.locator("tbody td:nth-child(2)").all_inner_texts())) == [6, 4, 2]
    assert table.locator("[aria-sort=descending]").inner_text().startswith("Images")


def test_the_map_shows_images_by_keyboard_and_by_pointer(page):
    page.locator("#image_map svg").focus()
    look = page.locator("#image_map .look")
    seen = {look.locator(".path").inner_text()}
    for key in ("ArrowRight", "ArrowLeft", "ArrowUp", "ArrowDown", "ArrowRight"):
        page.keyboard.press(key)
        seen.add(look.locator(".path").inner_text())
    assert len(seen) > 1
    assert look.locator("img").evaluate("one => one.naturalWidth") > 0
    images = json.loads(page.locator("#images").text_content())
    number = next(number for number, image in images.items() if image["path"] == "0-0.png")
    point = page.locator(f"#image_map circle[data-image='{number}']")
    point.scroll_into_view_if_needed()
    box = point.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    assert look.locator(".path").inner_text() == "0-0.png"
    assert look.locator("img").get_attribute("alt") == f"0-0.png: {HOSTILE_CLASS}"


def test_names_are_shown_as_text_and_run_no_script(page):
    assert HOSTILE_CLASS in page.locator("#classes table").inner_text()
    assert HOSTILE_FILE in page.locator("#mistakes").inner_text()
    assert page.locator("img[onerror]").count() == 0
    assert page.locator("body script:not([type])").count() == 1


def test_each_image_is_stored_once_and_has_alternative_text(page, written):
    copies = [image["copy"] for image in json.loads(page.locator("#images").text_content()).values()]
    assert len(copies) == len(set(copies)) == 42 == written.images
    assert page.locator("img:not([alt])").count() == page.locator("img[alt='']").count() == 0
    assert page.locator("svg[role=img]:not(:has(title))").count() == 0
    assert page.locator("#mistakes .trio img").evaluate_all(
        "all => all.length == 6 && all.every(one => one.naturalWidth == 32)"
    )


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_the_page_opens_without_errors_or_network_and_fits_the_screen(browser, written, viewport, scheme):
    opened = Opened(browser, written.path, viewport=viewport, color_scheme=scheme)
    opened.page.mouse.wheel(0, 20_000)
    assert opened.page.evaluate("document.documentElement.scrollWidth") == viewport["width"]
    paper = opened.page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (paper == "rgb(255, 255, 255)") == (scheme == "light")
    assert opened.addresses() == []
    assert opened.errors == []


def luminance(color):
    shares = [int(part) / 255 for part in re.findall(r"\d+", color)[:3]]
    linear = [share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares]
    return sum(factor * share for factor, share in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("selector", [".lead", ".quiet", "nav a", ".path", "summary", "figcaption"])
def test_text_has_enough_contrast(browser, written, scheme, selector):
    """At least 4.5 to 1, which the Web Content Accessibility Guidelines require of small text."""
    page = Opened(browser, written.path, color_scheme=scheme).page
    ink = page.locator(selector).first.evaluate("one => getComputedStyle(one).color")
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    dark, light = sorted(map(luminance, (ink, paper)))
    assert (light + 0.05) / (dark + 0.05) >= 4.5


def test_the_policy_forbids_other_scripts_and_requests(browser, written):
    opened = Opened(browser, written.path)
    failed = []
    opened.page.on("requestfailed", lambda request: failed.append(request.failure))
    add = "([tag, values]) => document.body.append(Object.assign(document.createElement(tag), values))"
    opened.page.evaluate(add, ["script", {"textContent": "hit = 1"}])
    assert opened.page.evaluate("typeof hit") == "undefined"
    with opened.page.expect_event("requestfailed"):
        opened.page.evaluate(add, ["img", {"src": "http://127.0.0.1:9/x.png"}])
    assert failed == ["csp"]
    assert len([error for error in opened.errors if "Content Security Policy" in error]) == 2


def test_the_report_of_a_store_has_no_sections_on_decisions(browser, hostile_model, tmp_path):
    written = report(hostile_model.with_suffix(".h5"), tmp_path / "store.html")
    assert written.sections == ("extraction", "depth", "advice", "suspects", "image_map", "commands")
    assert written.images == 0
    opened = Opened(browser, written.path)
    assert "make it with --root FOLDER" in opened.page.locator("main > .note").first.inner_text()
    assert opened.page.locator("main img").count() == 0
    opened.page.locator("#image_map svg").focus()
    assert opened.page.locator("#image_map .look .path").inner_text()
    assert opened.errors == opened.addresses() == []
