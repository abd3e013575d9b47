"""A radiologist's hands and eyes in OHIF: open a study, open a series, look at the viewport."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from playwright.sync_api import Browser, ConsoleMessage, Locator, Page, Response, sync_playwright

from tests.support.running import need

Picture = NDArray[np.uint8]
"""RGB, (rows, columns, 3)."""

SIZE = {"width": 1400, "height": 900}
TIMEOUT_S = 90.0
SETTLED_S = 0.7
FLAGS = [
    "--no-sandbox",  # Chromium refuses to be root with it, as tests in containers are
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
_CANVAS = "canvas.cornerstone-canvas"
_LABELS = "svg.svg-layer text"
_TEXTS = f"{_LABELS} tspan"
_CONTOURS = "svg.svg-layer :is(path, polyline, polygon)"
_BOXES = """all => all.map(one => one.getBBox()).map(
  b => ({ x: b.x, y: b.y, width: b.width, height: b.height }))"""
_NO_TOUR = "localStorage.setItem('shownTours', JSON.stringify(['basicViewerTour']))"


class Viewer:
    """One tab with OHIF.

    Attributes
    ----------
    problems : errors of the console, of scripts and of requests, in order
    """

    def __init__(self, page: Page, address: str) -> None:
        self._page = page
        self._address = address
        self.problems: list[str] = []
        page.set_default_timeout(TIMEOUT_S * 1000)
        page.add_init_script(_NO_TOUR)
        page.on("console", self._on_console)
        page.on("pageerror", lambda error: self.problems.append(f"script: {error}"))
        page.on("response", self._on_response)

    def _on_console(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.problems.append(f"console: {message.text}")

    def _on_response(self, response: Response) -> None:
        if response.status >= 400:
            self.problems.append(f"{response.status}: {response.url}")

    def open_study(self, uid: str) -> None:
        """Open a study and wait until its images are drawn."""
        self._page.goto(f"{self._address}/viewer?StudyInstanceUIDs={uid}")
        self._thumbnail("MR").wait_for()
        self._canvas.wait_for()
        self.wait_until(lambda: bool(self.settled().max() > 100), "the first series is drawn")

    def modalities(self) -> list[str]:
        """Of the series that are offered."""
        return sorted(text.split()[0] for text in self._thumbnails.all_inner_texts())

    def open_series(self, modality: str) -> None:
        self._thumbnail(modality).dblclick()
        self.settled()

    def scroll_to_instance(self, number: int) -> None:
        """Turn the wheel until the image with this InstanceNumber is shown."""
        self._canvas.hover()

        self.wait_until(lambda: self._instance() is not None, "an InstanceNumber is shown")
        for direction in (1, -1):
            for _ in range(400):
                before = self._instance()
                if before == number:
                    self.settled()
                    return
                self._page.mouse.wheel(0, 100 * direction)
                self._page.wait_for_timeout(150)
                if self._instance() == before:
                    break
        raise AssertionError(f"no image {number} in this series; at {self._instance()}")

    def _instance(self) -> int | None:
        found = re.search(r"I:\s*(\d+)", self.words())
        return int(found[1]) if found else None

    def texts(self) -> list[str]:
        """What measurements say beside their contours."""
        return [text for text in self._page.locator(_TEXTS).all_text_contents() if text.strip()]

    def labels(self) -> list[list[str]]:
        """The lines of each measurement's label."""
        lines = "all => all.map(one => [...one.querySelectorAll('tspan')].map(line => line.textContent))"
        return [each for each in self._page.locator(_LABELS).evaluate_all(lines) if each]

    def wait_for_text(self, text: str) -> None:
        """Wait for a measurement; on a busy machine OHIF draws one only when its slice is shown again."""

        def said() -> bool:
            if any(text in each for each in self.texts()):
                return True
            number = self._instance()
            if number is not None:
                self._canvas.hover()
                for direction in (1, -1):
                    self._page.mouse.wheel(0, 100 * direction)
                    self._page.wait_for_timeout(150)
                self.scroll_to_instance(number)
            return any(text in each for each in self.texts())

        self._page.wait_for_timeout(1000 * SETTLED_S)
        self.wait_until(said, f"a measurement says {text!r}")

    def words(self) -> str:
        """All that is written on the page, such as a report that is shown as text."""
        return self._page.locator("body").inner_text()

    def labels_beyond_the_edge(self) -> list[str]:
        """Labels of measurements that are not whole in the viewport."""
        width, height = self._canvas.bounding_box()["width"], self._canvas.bounding_box()["height"]
        labels = self._page.locator(_LABELS)
        boxes = zip(labels.all_text_contents(), labels.evaluate_all(_BOXES), strict=True)
        return [
            text
            for text, b in boxes
            if min(b["x"], b["y"]) < 0 or b["x"] + b["width"] > width or b["y"] + b["height"] > height
        ]

    def contours(self) -> list[tuple[float, float, float, float]]:
        """Left, top, right and bottom of each contour of a measurement, in pixels of the viewport."""
        boxes = self._page.locator(_CONTOURS).evaluate_all(_BOXES)
        return [(b["x"], b["y"], b["x"] + b["width"], b["y"] + b["height"]) for b in boxes]

    def settled(self, quiet_s: float = SETTLED_S) -> Picture:
        """The viewport once it has not changed for so long."""
        last, since = self._viewport(), time.monotonic()
        deadline = since + TIMEOUT_S
        while time.monotonic() < deadline:
            self._page.wait_for_timeout(150)
            now = self._viewport()
            if not np.array_equal(last, now):
                last, since = now, time.monotonic()
            elif time.monotonic() - since > quiet_s:
                return now
        raise AssertionError("the viewport changes all the time")

    def wait_for_colour(self) -> Picture:
        """The viewport once something red is in it."""
        self.wait_until(lambda: int(red(self._viewport()).sum()) > 50, "a segment is drawn")
        return self.settled()

    def wait_until(self, what: Callable[[], bool], name: str) -> None:
        deadline = time.monotonic() + TIMEOUT_S
        while not what():
            assert time.monotonic() < deadline, f"still not so after {TIMEOUT_S} s: {name}"
            self._page.wait_for_timeout(200)

    def save(self, path: Path) -> None:
        """The whole tab, as PNG."""
        self._page.screenshot(path=path)

    def _viewport(self) -> Picture:
        # Of the page, since OHIF replaces the canvas itself when another kind of series is opened,
        # and has none for a report without images.
        boxes = [canvas.bounding_box() for canvas in self._page.query_selector_all(_CANVAS)]
        box = next(filter(None, boxes), None)
        if box is None:
            return np.zeros((1, 1, 3), np.uint8)
        encoded = np.frombuffer(self._page.screenshot(clip=box), np.uint8)
        decoded = cv2.imdecode(encoded, cv2.IMREAD_COLOR)
        assert decoded is not None
        return decoded[:, :, ::-1]

    @property
    def _canvas(self) -> Locator:
        return self._page.locator(_CANVAS).first

    @property
    def _thumbnails(self) -> Locator:
        return self._page.locator('[data-cy^="study-browser-thumbnail"]')

    def _thumbnail(self, modality: str) -> Locator:
        return self._thumbnails.filter(has_text=re.compile(rf"^\s*{modality}")).first


def red(picture: Picture) -> NDArray[np.bool_]:
    """Where red is laid over grey."""
    channels = picture.astype(np.int16)
    return (channels[..., 0] - channels[..., 1] > 40) & (channels[..., 0] - channels[..., 2] > 40)


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser without a window."""
    program = need("chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=FLAGS)
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def viewer(browser: Browser, address: str) -> Iterator[Viewer]:
    """A tab of its own, without memory of earlier ones."""
    context = browser.new_context(viewport=SIZE)  # type: ignore[arg-type]
    try:
        yield Viewer(context.new_page(), address)
    finally:
        context.close()
