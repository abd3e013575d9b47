"""The page in a real browser, as people use it: headless Chromium, driven by Playwright.

Covered: trying a picture and a series out, with and without a tumour; the list with its search, live; one
series with its way, rules, versions and orders; the viewer by slider, keys, wheel, plot and table, with each
layer, and that the patient's left is on the right; the node; that all of it works by keyboard, names
its parts and its fields for a screen reader, has enough contrast, asks no other host and writes no error to
the console. Not covered: other browsers, real screen readers, touch.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.support.spot import image_spot
from tests.web.page_checks import LOADED, LOW_CONTRASTS, NAMELESS
from tests.web.site import PATIENT_NAME, Site

pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
from playwright.sync_api import Browser, Page, Request, Route, expect

from tests.viewer.browser import chromium

pytestmark = [pytest.mark.ui, pytest.mark.slow]
SIZE = {"width": 1400, "height": 1000}
PATIENCE_MS = 60_000
expect.set_options(timeout=PATIENCE_MS)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


class Tab:
    """A tab, and all that went wrong or out in it."""

    def __init__(self, page: Page, site: Site) -> None:
        self.page, self.site = page, site
        self.problems: list[str] = []
        page.set_default_timeout(PATIENCE_MS)
        page.on("console", lambda m: self.problems.append(m.text) if m.type == "error" else None)
        page.on("pageerror", lambda error: self.problems.append(f"script: {error}"))
        page.on("request", self._on_request)

    def _on_request(self, request: Request) -> None:
        if not request.url.startswith((self.site.url, "blob:", "data:")):
            self.problems.append(f"asks {request.url}")

    def open(self, path: str) -> Page:
        self.page.goto(f"{self.site.url}{path}")
        return self.page

    def open_series(self, name: str) -> Page:
        return self.open(f"/series/{self.site.entry(name).number}")

    def said(self, text: str | re.Pattern[str]) -> None:
        expect(self.page.locator("#said")).to_contain_text(text)

    def drawn(self, selector: str) -> NDArray[np.uint8]:
        """What is seen of an element once its pictures are there, as RGB."""
        self.page.wait_for_function(LOADED)
        encoded = np.frombuffer(self.page.locator(selector).screenshot(), np.uint8)
        decoded = cv2.imdecode(encoded, cv2.IMREAD_COLOR)
        assert decoded is not None
        return decoded[:, :, ::-1]

    def check(self) -> None:
        """No low contrast, and a name for everything."""
        assert self.page.evaluate(LOW_CONTRASTS) == []
        assert self.page.evaluate(NAMELESS) == []
        assert self.page.locator("main").count() == 1
        assert self.page.locator("nav[aria-label]").count() >= 1
        assert self.page.locator("h1").count() == 1


@pytest.fixture
def tab(browser: Browser, site: Site) -> Iterator[Tab]:
    context = browser.new_context(viewport=SIZE, reduced_motion="reduce")  # type: ignore[arg-type]
    made = Tab(context.new_page(), site)
    yield made
    context.close()
    assert made.problems == []


def red(picture: NDArray[np.uint8]) -> NDArray[np.bool_]:
    channels = picture.astype(int)
    return (channels[..., 0] - channels[..., 1] > 60) & (channels[..., 0] - channels[..., 2] > 60)


def slice_with_most(site: Site) -> int:
    return int(site.spot.mask.sum(axis=(1, 2)).argmax()) + 1


def try_out(tab: Tab, *files: Path) -> Page:
    page = tab.open("/try")
    page.locator("#files").set_input_files(files)
    page.get_by_role("button", name="Analyse").click()
    page.wait_for_url(re.compile("/try/[0-9a-f]+"))
    return page


def test_a_picture_with_a_tumour_is_found_then_outlined_and_downloaded(tab: Tab) -> None:
    page = try_out(tab, tab.site.picture("slice.png"))
    expect(page.locator(".verdict")).to_contain_text(re.compile(r"Tumour found: probability (0\.9|1\.0)"))
    page.get_by_role("button", name="Segment the tumour").click()
    expect(page.locator(".answer")).to_contain_text("1 region")
    assert not red(tab.drawn("#left .frame")).any()
    assert red(tab.drawn("#right .frame")).any()
    with page.expect_download() as download:
        page.get_by_role("link", name="PNG of this slice").click()
    assert cv2.imread(str(download.value.path())) is not None
    tab.check()


def test_a_series_without_a_tumour_has_nothing_to_segment(tab: Tab) -> None:
    page = try_out(tab, *sorted((tab.site.folder / "none" / "series").glob("*.dcm")))
    expect(page.locator(".verdict")).to_contain_text("No tumour found")
    expect(page.locator(".answer")).to_contain_text("There is no tumour to segment")
    assert page.get_by_role("button", name="Segment").count() == 0


def test_a_series_is_tried_with_a_chosen_bundle_and_its_seg_downloaded(tab: Tab) -> None:
    page = tab.open("/try")
    page.get_by_label("spot-other").check()
    page.locator("#files").set_input_files(sorted((tab.site.folder / "found" / "series").glob("*.dcm")))
    page.get_by_role("button", name="Analyse").click()
    page.get_by_role("button", name="Segment the tumour").click()
    expect(page.locator(".answer")).to_contain_text("spot-other")
    with page.expect_download() as download:
        page.get_by_role("link", name="SEG").click()
    assert download.value.path().read_bytes()[128:132] == b"DICM"
    expect(page.locator(".lesions tbody tr")).to_have_count(1)


def test_what_is_no_image_is_refused_on_the_page(tab: Tab, tmp_path: Path) -> None:
    page = tab.open("/try")
    page.get_by_role("button", name="Analyse").click()
    expect(page.get_by_role("alert")).to_contain_text("Choose a file first")
    (tmp_path / "notes.txt").write_text("hello")
    page.locator("#files").set_input_files(tmp_path / "notes.txt")
    page.get_by_role("button", name="Analyse").click()
    expect(page.get_by_role("alert")).to_contain_text("no PNG, no JPEG and no DICOM image")
    tab.problems.clear()  # Chromium writes each refusal to the console
    tab.check()


def test_the_list_is_searched_and_filtered_without_an_address_that_tells(tab: Tab) -> None:
    page = tab.open("/series")
    uid = tab.site.uid("skipped")
    rows = page.locator("tbody tr[data-key]")
    expect(page.locator("tbody")).to_contain_text(PATIENT_NAME)
    tab.check()
    page.get_by_label("Search").fill(uid)
    expect(rows).to_have_count(1)
    expect(rows).to_contain_text("skipped")
    assert page.url == f"{tab.site.url}/series"
    page.get_by_label("Search").fill("")
    page.get_by_label("State").select_option("needs attention")
    expect(page.locator("tbody")).not_to_contain_text("skipped")
    expect(page.locator("tbody")).to_contain_text("not delivered")
    expect(page.locator("#heard")).to_contain_text("shown")


def test_the_list_follows_what_happens_and_keeps_the_focus(tab: Tab) -> None:
    page = tab.open("/series")
    before = page.locator("tbody tr[data-key]").count()
    link = page.locator("tbody a").last
    link.focus()
    tab.site.send(tab.site.make("late", image_spot(centre_mm=(-18.0, 10.0, 0.0))))
    expect(page.locator("tbody tr[data-key]")).to_have_count(before + 1)
    expect(page.locator("tbody tr").first).to_contain_text("1 lesion")
    expect(link).to_be_focused()
    tab.site.wait_until_ended(before + 1)


def test_a_series_shows_its_way_its_rules_and_its_destinations(tab: Tab) -> None:
    page = tab.open_series("found")
    for station in ("received", "analysing", "sending"):
        expect(page.locator(".way")).to_contain_text(station)
    page.get_by_text("Rules").click()
    expect(page.locator(".trace")).to_contain_text("modality is MR")
    expect(page.locator("#told")).to_contain_text("archive")
    expect(page.locator("#told")).to_contain_text("down")
    page.get_by_text("Every step").click()
    expect(page.locator(".events").first).to_contain_text("to archive: sent")
    page.get_by_text("Lines of the log").click()
    expect(page.locator(".events").last).to_contain_text("results_sent")
    tab.check()


def test_an_order_is_given_and_its_work_followed(tab: Tab) -> None:
    page = tab.open_series("found")
    page.get_by_role("button", name="Retry").click()
    expect(page.locator(".way")).to_contain_text("sending")
    expect(page.locator(".state")).to_contain_text("not delivered")


def test_versions_of_a_series_can_be_chosen(tab: Tab) -> None:
    page = tab.open_series("late")
    page.get_by_label("Bundle").select_option("spot-other")
    page.get_by_role("button", name="Analyse as a new version").click()
    expect(page.locator(".versions")).to_contain_text("Version 2 (spot-other)")
    expect(page.locator("#panes")).to_be_visible(timeout=PATIENCE_MS)
    expect(page.locator(".lesions tbody tr")).to_have_count(1)
    page.get_by_role("link", name="Version 1").click()
    expect(page.get_by_role("link", name="Version 1")).to_have_attribute("aria-current", "page")


def test_the_patients_left_is_on_the_right_of_the_picture(tab: Tab) -> None:
    page = tab.open_series("found")
    tab.said(f"Slice {slice_with_most(tab.site)} of 12")
    page.get_by_label("mask").check()
    expect(page.locator("#layer-name")).to_have_text("Mask")
    picture = tab.drawn("#right .frame")
    rows, columns = np.nonzero(red(picture))
    assert columns.mean() / picture.shape[1] > 0.55, "the spot is on the patient's left"
    assert rows.mean() / picture.shape[0] < 0.45, "and anterior"
    letters = [
        page.locator(f"#right .edge.{side}").inner_text() for side in ("left", "right", "top", "bottom")
    ]
    assert letters == ["R", "L", "A", "P"]
    assert page.locator("#right .scale").inner_text() == "50 mm"


def test_slices_are_gone_through_by_slider_keys_wheel_plot_and_table(tab: Tab) -> None:
    page = tab.open_series("found")
    start = slice_with_most(tab.site)
    tab.said(f"Slice {start} of 12")
    page.locator("#index").focus()
    page.keyboard.press("ArrowRight")
    tab.said(f"Slice {start + 1} of 12")
    page.locator("#left").focus()
    page.keyboard.press("End")
    tab.said("Slice 12 of 12")
    page.keyboard.press("Home")
    tab.said("Slice 1 of 12")
    page.locator("#right").hover()
    page.mouse.wheel(0, 100)
    tab.said("Slice 2 of 12")
    plot = page.locator("#plot").bounding_box()
    assert plot is not None
    page.mouse.click(plot["x"] + plot["width"] * 8.5 / 12, plot["y"] + 20)
    tab.said("Slice 9 of 12")
    assert page.locator("#index").input_value() == "9"
    page.get_by_role("button", name=f"Go to slice {start}").click()
    tab.said(re.compile(rf"Slice {start} of 12.*Detector: (0\.9|1\.0).*positive.*Lesion 1"))


def test_a_slice_and_what_is_laid_over_it_change_together(tab: Tab) -> None:
    page = tab.open_series("found")
    page.wait_for_function(LOADED)
    late: list[Route] = []
    key, far = ("Home", 0) if slice_with_most(tab.site) > 6 else ("End", 11)  # not fetched ahead

    def hold(route: Route) -> None:
        late.append(route)

    page.route(re.compile(f"/slice/{far}/heatmap"), hold)
    images = [page.locator(f"#{name}") for name in ("left-anatomy", "right-anatomy", "right-layer")]
    before = [image.get_attribute("src") for image in images]
    page.locator("#left").focus()
    with page.expect_response(re.compile(f"/slice/{far}$")) as response:
        page.keyboard.press(key)
    response.value.finished()
    tab.said(f"Slice {far + 1} of 12")
    assert [image.get_attribute("src") for image in images] == before
    late[0].continue_()
    page.wait_for_function(LOADED)
    after = [image.get_attribute("src") for image in images]
    assert after[0] == after[1]
    assert not set(after) & set(before)


def test_layers_opacity_views_and_window_change_what_is_seen(tab: Tab) -> None:
    page = tab.open_series("found")
    tab.said("Slice")
    seen = {}
    for layer in ("heatmap", "contour", "mask"):
        page.get_by_label("outline" if layer == "contour" else layer).check()
        page.wait_for_timeout(400)
        seen[layer] = tab.drawn("#right .frame")
    assert red(seen["mask"]).sum() > 3 * red(seen["contour"]).sum() > 0
    page.get_by_label("opacity").fill("0")
    page.wait_for_timeout(300)
    assert not red(tab.drawn("#right .frame")).any()
    page.get_by_label("overlay").check()
    expect(page.locator("#left")).to_be_hidden()
    before = tab.drawn("#right .frame").mean()
    anatomy = page.locator("#right-anatomy")
    as_it_was = anatomy.get_attribute("src") or ""
    page.get_by_label("level").fill("150")
    expect(anatomy).not_to_have_attribute("src", as_it_was)
    brighter = anatomy.get_attribute("src") or ""
    assert tab.drawn("#right .frame").mean() > before + 5, "a lower level is brighter"
    page.get_by_role("button", name="Reset").click()
    expect(anatomy).not_to_have_attribute("src", brighter)
    assert abs(tab.drawn("#right .frame").mean() - before) < 2


def test_a_series_that_could_not_be_analysed_shows_its_images_and_why(tab: Tab) -> None:
    page = tab.open_series("failed")
    expect(page.locator("#told")).to_contain_text("a slice is missing")
    expect(page.locator(".viewer .remark")).to_contain_text("No sound volume")
    tab.said("of 11")
    assert tab.drawn("#right .frame").max() > 100
    expect(page.locator("#left")).to_be_hidden()  # without a result there is nothing to compare
    tab.check()


def test_the_node_shows_models_destinations_load_and_configuration(tab: Tab) -> None:
    page = tab.open("/node")
    page.get_by_role("button", name="Ask archive").click()
    expect(page.locator("tr", has_text="archive").locator(".badge")).to_have_text("answers")
    page.get_by_text("Card of spot-other").click()
    expect(page.locator(".card").last).to_contain_text("Sees bright spots")
    page.get_by_text("Configuration as read").click()
    expect(page.locator(".settings")).to_contain_text("receive.maximum_pdu")
    expect(page.locator("#load")).to_contain_text("Series done")
    tab.check()


def test_pages_are_used_by_keyboard_alone(tab: Tab) -> None:
    page = tab.open("/series")
    page.keyboard.press("Tab")
    expect(page.locator(".skip")).to_be_focused()
    page.keyboard.press("Enter")
    for _ in range(40):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.closest('tbody')") is not None:
            break
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile(r"/series/\d+"))
    style = "getComputedStyle(document.activeElement).outlineStyle"
    page.keyboard.press("Tab")
    assert page.evaluate(style) != "none", "the focus is seen"
