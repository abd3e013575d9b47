"""Pictures of one slice: the anatomy, and what lies over it.

All but contours have the pixels of the slice itself: a browser makes them square and large, and a picture
takes a third of the time. Contours are drawn large, so that they are thin.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from dicom_node.results.picture import Picture
from dicom_node.web.shown import Shown, Window

PANE = 640
"""Longer side of a picture that is drawn large, in pixels."""

Layer = Literal["heatmap", "contour", "mask"]

# In noise nothing repeats: to look for repetitions takes three times as long and makes larger files
_GREY = [
    *(cv2.IMWRITE_PNG_COMPRESSION, 1),
    *(cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_SUB),
    *(cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_HUFFMAN_ONLY),
]
_FLAT = [cv2.IMWRITE_PNG_COMPRESSION, 1, cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_NONE]
_OPACITY = np.rint(np.linspace(0, 230, 256)).astype(np.uint8)  # of the heatmap, by probability in 255ths
_MASK = 150
# Red, green, yellow, cyan, magenta, orange in RGB: the colours of the segments in the SEG
_COLOURS = ((255, 84, 72), (84, 220, 100), (245, 225, 80), (80, 215, 235), (230, 110, 230), (250, 165, 60))


def size_of(shown: Shown) -> tuple[int, int]:
    """Rows and columns of a large picture: its pixels are square."""
    _, rows, columns = shown.voxels.shape
    row_mm, column_mm = shown.pixel_mm or (1.0, 1.0)
    scale = PANE / max(rows * row_mm, columns * column_mm)
    return max(1, round(rows * row_mm * scale)), max(1, round(columns * column_mm * scale))


def anatomy(shown: Shown, index: int, window: Window | None = None) -> NDArray[np.uint8]:
    """Draw one slice.

    Returns
    -------
    uint8, (rows, columns), grey
    """
    return np.rint(_windowed(shown, index, window)).astype(np.uint8)


def overlay(shown: Shown, index: int, layer: Layer) -> NDArray[np.uint8]:
    """Draw what was found on one slice.

    Returns
    -------
    uint8, (rows, columns, 4), RGB and opacity
    """
    if layer == "heatmap":
        return _heatmap(shown, index)
    if layer == "mask":
        return _mask(shown, index)
    rows, columns = size_of(shown)
    drawn = np.zeros((rows, columns, 4), np.uint8)
    for number, mask in _lesions_on(shown, index):
        fitted = cv2.resize(mask, (columns, rows), interpolation=cv2.INTER_NEAREST)
        contours, _ = cv2.findContours(fitted, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(drawn, contours, -1, (0, 0, 0, 255), 4)
        cv2.drawContours(drawn, contours, -1, (*colour_of(number), 255), 2)
    return drawn


def side_by_side(shown: Shown, index: int) -> Picture:
    """Draw a slice, and beside it the same under its heatmap and outlines, for a download.

    Returns
    -------
    uint8, (rows, 2 x columns, 3), RGB
    """
    rows, columns = size_of(shown)
    grey = np.rint(_resized(_windowed(shown, index, None), rows, columns)).astype(np.uint8)
    left = np.repeat(grey[:, :, None], 3, axis=2)
    heatmap = _resized(overlay(shown, index, "heatmap"), rows, columns)
    right = _laid_over(_laid_over(left, heatmap), overlay(shown, index, "contour"))
    return np.hstack([left, right])


def colour_of(number: int) -> tuple[int, int, int]:
    """RGB of a lesion."""
    return _COLOURS[(number - 1) % len(_COLOURS)]


def encoded(picture: NDArray[np.uint8]) -> bytes:
    """Encode as PNG; channels are grey, RGB, or RGB and opacity."""
    if picture.ndim == 2:
        done, data = cv2.imencode(".png", picture, _GREY)
    else:
        code = cv2.COLOR_RGBA2BGRA if picture.shape[2] == 4 else cv2.COLOR_RGB2BGR
        done, data = cv2.imencode(".png", cv2.cvtColor(picture, code), _FLAT)
    if not done:
        raise ValueError("the picture cannot be encoded as PNG")
    return data.tobytes()


def _windowed(shown: Shown, index: int, window: Window | None) -> NDArray[np.float32]:
    chosen = window or shown.window
    scale = np.float32(255 / max(chosen.width, 1e-6))
    low = np.float32(chosen.centre - chosen.width / 2)
    grey: NDArray[np.float32] = ((shown.voxels[index] - low) * scale).clip(0, 255)
    return grey


def _heatmap(shown: Shown, index: int) -> NDArray[np.uint8]:
    drawn = np.zeros((*shown.voxels.shape[1:], 4), np.uint8)
    if shown.probability is not None and shown.probability[index].any():
        steps = shown.probability[index]
        drawn[:, :, :3] = cv2.cvtColor(cv2.applyColorMap(steps, cv2.COLORMAP_JET), cv2.COLOR_BGR2RGB)
        drawn[:, :, 3] = _OPACITY[steps]
    return drawn


def _mask(shown: Shown, index: int) -> NDArray[np.uint8]:
    drawn = np.zeros((*shown.voxels.shape[1:], 4), np.uint8)
    for number, mask in _lesions_on(shown, index):
        drawn[mask > 0] = (*colour_of(number), _MASK)
    return drawn


def _lesions_on(shown: Shown, index: int) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    if shown.labels is None:
        return
    labels = shown.labels[index]
    for number in np.unique(labels[labels > 0]):
        yield int(number), (labels == number).astype(np.uint8)


def _resized(image: NDArray[Any], rows: int, columns: int) -> NDArray[Any]:
    shrinks = rows < image.shape[0] and columns < image.shape[1]
    return cv2.resize(image, (columns, rows), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


def _laid_over(picture: Picture, layer: NDArray[np.uint8]) -> Picture:
    alpha = layer[:, :, 3:].astype(np.float32) / 255
    mixed: Picture = np.rint((1 - alpha) * picture + alpha * layer[:, :, :3]).astype(np.uint8)
    return mixed
