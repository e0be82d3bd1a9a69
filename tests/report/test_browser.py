"""The page in headless Chromium: clicks, keys, touch, the address; no errors and no requests."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from boundseg.report.page import report
from boundseg.training.run import Run

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
CASE = "patient4_frame01"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    found = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip(f"none of {', '.join(BROWSERS)} is on the PATH")
    with sync_api.sync_playwright() as started:
        # containers and root have no sandbox of their own; the page is ours
        opened = started.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield opened
        opened.close()


class Visit:
    """A page that is open, and what it complained about or asked the network for."""

    def __init__(self, browser: Any, path: Path, address: str = "", **options: Any) -> None:
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.page = browser.new_context(**options).new_page()
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(path.as_uri() + address)

    def until(self, condition: str, seconds: float = 30.0) -> None:
        """Waits; the browser's own waiting evaluates text in the page, which its content policy forbids."""
        end = time.monotonic() + seconds
        while not self.page.evaluate(condition):
            assert time.monotonic() < end, condition
            self.page.wait_for_timeout(20)

    def shows(self, case: str, index: int) -> None:
        self.page.wait_for_selector(f'#viewer[data-drawn="{case}/{index}"]', timeout=20_000)

    def label(self) -> str:
        return str(self.page.locator("#viewer canvas").get_attribute("aria-label"))

    def names(self, words: str) -> None:
        self.page.wait_for_selector(f'#viewer canvas[aria-label$="{words}"]', timeout=20_000)

    def pixels(self) -> str:
        return str(self.page.evaluate("document.querySelector('#viewer canvas').toDataURL()"))

    def close(self) -> None:
        assert self.complaints == []
        assert [url for url in self.requests if not url.startswith(("file:", "data:", "blob:"))] == []
        self.page.context.close()


def test_clicks_keys_and_addresses_lead_to_slices(browser: Any, runs: list[Path], tmp_path: Path) -> None:
    odd = runs[0].rename(runs[0].with_name("a<b>&'c"))
    visit = Visit(browser, report([odd, runs[1]], tmp_path / "page.html"))
    page = visit.page
    visit.shows(CASE, 2)
    assert visit.label() == f"{CASE}, slice 2, with weak labels: seeds, reference, a<b>&'c, partial"
    before = visit.pixels()

    page.locator("#viewer [data-part=stage]").click()
    page.keyboard.press("2")
    visit.names("with weak labels: seeds, a<b>&'c, partial")
    assert visit.pixels() != before
    page.keyboard.press("2")
    visit.names("with weak labels: seeds, reference, a<b>&'c, partial")
    assert visit.pixels() == before

    page.keyboard.press("ArrowUp")
    visit.shows(CASE, 3)
    assert page.url.endswith(f"#case={CASE}&slice=3")
    page.mouse.wheel(0, 100)
    visit.shows(CASE, 2)
    page.keyboard.press("ArrowRight")
    visit.shows("patient4_frame07", 2)
    page.locator("#viewer button[data-step=slice]").last.click()
    visit.shows("patient4_frame07", 3)

    page.locator("#viewer [data-part=stage]").focus()
    page.keyboard.press("?")
    assert page.locator("dialog[open]").count() == 1
    page.keyboard.press("Escape")
    assert page.locator("dialog[open]").count() == 0

    # a point of a plot: the case, and of the runs the one whose point it is
    box = page.locator("#bounds svg a").first.bounding_box()
    page.mouse.move(0, 0)
    page.locator("#bounds svg a").first.scroll_into_view_if_needed()
    box = page.locator("#bounds svg a").first.bounding_box()
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    visit.until("location.hash.startsWith('#case=') && document.activeElement.dataset.part === 'stage'")
    visit.names("with weak labels: seeds, reference, a<b>&'c")
    page.locator("#viewer select").select_option("patient1_frame01")
    visit.names("with weak labels: seeds, reference")
    visit.close()


def test_cases_sort_by_dsc_and_by_broken_bounds(browser: Any, runs: list[Path], tmp_path: Path) -> None:
    visit = Visit(browser, report(runs, tmp_path / "page.html"), f"#case={CASE}&slice=1")
    visit.shows(CASE, 1)
    heads = visit.page.locator("table.sortable th")
    for column in (2, 4):
        cells = visit.page.locator(f"table.sortable tbody td:nth-child({column + 1})")
        for way in ("ascending", "descending"):
            heads.nth(column).locator("button").click()
            assert heads.nth(column).get_attribute("aria-sort") == way
            values = [float(cells.nth(i).get_attribute("data-value")) for i in range(cells.count())]
            assert values == sorted(values, reverse=way == "descending")
    visit.page.locator("table.sortable tbody a", has_text="patient4_frame07").click()
    visit.shows("patient4_frame07", 2)
    visit.close()


def test_layers_keep_apart_where_colours_are_those_of_the_classes(
    browser: Any, runs: list[Path], tmp_path: Path
) -> None:
    shutil.copytree(Run.open(runs[0]).config.data.folder / "labelsTr", runs[0] / "predictions", dirs_exist_ok=True)
    visit = Visit(browser, report(runs[:1], tmp_path / "page.html"), f"#case={CASE}&slice=1")
    visit.shows(CASE, 1)
    page = visit.page
    assert page.locator("[data-part=by-class]").is_checked()
    lines = page.locator("label:has([data-layer]) .line")
    assert [lines.nth(i).inner_text() for i in range(lines.count())] == ["dashed", "solid"]
    page.locator("[data-layer='0']").uncheck()
    visit.names("with reference, individual")
    seen = {}
    for key, layer in (("2", "individual"), ("3", "reference")):  # the prediction is the reference
        page.locator("#viewer [data-part=stage]").focus()
        page.keyboard.press(key)
        visit.names(f"with {layer}")
        seen[layer] = visit.pixels()
        page.keyboard.press(key)
        visit.names("with reference, individual")
    assert seen["reference"] != seen["individual"]
    page.locator("[data-part=by-class]").uncheck()
    assert not lines.nth(1).is_visible()
    visit.close()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"cases": CASE}, "patient4_frame07 is not in this page: boundseg report --cases names others."),
        ({}, "somebody is no case of this page."),
    ],
)
def test_an_address_of_a_case_that_is_not_there_says_why(
    browser: Any, runs: list[Path], tmp_path: Path, options: dict[str, Any], said: str
) -> None:
    path = report(runs, tmp_path / "page.html", **options)
    visit = Visit(browser, path, f"#case={said.split()[0]}")
    note = visit.page.locator("#viewer [data-part=note]")
    visit.until(f"document.querySelector('#viewer [data-part=note]').textContent === {said!r}")
    assert note.is_visible()
    visit.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_telephone_and_is_swiped(browser: Any, runs: list[Path], tmp_path: Path, scheme: str) -> None:
    size = {"width": 400, "height": 800}
    visit = Visit(browser, report(runs, tmp_path / "p.html"), viewport=size, has_touch=True, color_scheme=scheme)
    page = visit.page
    visit.shows(CASE, 2)
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    facts = "[...document.querySelectorAll('.wide:has(.facts)')]"
    assert page.evaluate(f"{facts}.every((one) => one.scrollWidth <= one.clientWidth)")
    assert "bounds" in page.locator("[data-part=slice-facts]").inner_text()
    # one finger, sideways, by the browser's own protocol
    box = page.locator("#viewer [data-part=stage]").bounding_box()
    page.evaluate("document.getElementById('viewer').scrollIntoView({behavior: 'instant'})")
    box = page.locator("#viewer [data-part=stage]").bounding_box()
    x, y = box["x"] + 100, box["y"] + 60
    protocol = page.context.new_cdp_session(page)
    touch = "Input.dispatchTouchEvent"
    protocol.send(touch, {"type": "touchStart", "touchPoints": [{"x": x, "y": y}]})
    protocol.send(touch, {"type": "touchMove", "touchPoints": [{"x": x + 30, "y": y}]})
    protocol.send(touch, {"type": "touchEnd", "touchPoints": []})
    visit.until(f"document.getElementById('viewer').dataset.drawn !== '{CASE}/2'")
    ground = "getComputedStyle(document.body).backgroundColor"
    assert (page.evaluate(ground) == "rgb(255, 255, 255)") == (scheme == "light")
    for _ in range(2):  # auto, light, dark
        page.locator("#theme").click()
    assert page.evaluate(ground) == "rgb(20, 23, 26)"
    visit.close()
