"""The summary picture: the key slice beside the same slice under its probability map.

The slice is shown as its rows and columns are stored, never mirrored or turned; only its
pixels are made square. No patient data is drawn.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from dicom_node.analysis.findings import Findings
from dicom_node.results.identity import ascii_text, raw_text
from dicom_node.results.marks import rgb_of
from dicom_node.results.provenance import RESEARCH_USE
from dicom_node.results.report import summary
from dicom_node.series.volume import MRVolume

Picture = NDArray[np.uint8]
"""RGB, (rows, columns, 3)."""

_PANE = 512
_BANNER = 40
_FOOTER = 64
_STRONGEST = 0.65
"""Opacity of the heatmap at probability 1, so that the anatomy below stays visible."""

_WHITE = (235, 235, 235)
_GREY = (150, 150, 150)
_AMBER = (255, 190, 60)
_FONT = cv2.FONT_HERSHEY_SIMPLEX


def slice_picture(volume: MRVolume, findings: Findings, index: int) -> Picture:
    """Show one slice: MRI left, heatmap and outline of the lesions right."""
    grey = _squared(_windowed(volume.voxels[index]), volume)
    anatomy = np.repeat(grey[:, :, None], 3, axis=2)
    probability = _squared(findings.probability[index], volume)
    blended = _outlined(_blended(anatomy, probability), findings.labels[index], volume)

    page = _page(2 * _PANE)
    panes: tuple[tuple[str, Picture], ...] = (
        ("MRI", np.rint(anatomy).astype(np.uint8)),
        (f"{findings.algorithm.finding.title} probability", blended),
    )
    for column, (name, image) in enumerate(panes):
        pane = page[_BANNER : _BANNER + _PANE, column * _PANE : (column + 1) * _PANE]
        top, left = (_PANE - image.shape[0]) // 2, (_PANE - image.shape[1]) // 2
        pane[top : top + image.shape[0], left : left + image.shape[1]] = image
        _write_letters(pane, volume)
        _write(pane, name, (10, _PANE - 12), _GREY)
    _draw_scale(page[_BANNER : _BANNER + _PANE, _PANE:])
    _write(page, f"{_slice_name(volume, index)}. {summary(findings)}", (12, _BANNER + _PANE + 40))
    return page


def card(title: str, paragraphs: Sequence[str]) -> Picture:
    """Show text alone, for a result without an image to show."""
    margin, scale, line_height = 60, 0.6, 28
    lines: list[str] = []
    for paragraph in filter(None, paragraphs):
        lines += [*_wrapped(ascii_text(paragraph), 2 * (_PANE - margin), scale), ""]
    first = _BANNER + 150
    page = _page(2 * _PANE, max(_PANE, 150 + line_height * len(lines)))
    _write(page, ascii_text(title), (margin, first - 60), scale=1.1, thickness=2)
    for number, line in enumerate(lines):
        _write(page, line, (margin, first + line_height * number), scale=scale)
    return page


def png(picture: Picture) -> bytes:
    """Encode as PNG."""
    done, encoded = cv2.imencode(".png", picture[:, :, ::-1])
    if not done:
        raise ValueError("the picture cannot be encoded as PNG")
    return encoded.tobytes()


def direction_letters(direction: NDArray[np.floating]) -> str:
    """Name a direction in patient coordinates (PS3.3 C.7.6.1.1.1): ``L``, or ``LA`` when oblique."""
    unit = np.asarray(direction, np.float64) / np.linalg.norm(direction)
    pairs = (("L", "R"), ("P", "A"), ("H", "F"))
    strongest = np.argsort(-np.abs(unit), kind="stable")[:2]
    return "".join(pairs[axis][int(unit[axis] < 0)] for axis in strongest if abs(unit[axis]) > 0.35)


def _page(width: int, height: int = _PANE) -> Picture:
    """A black page with the banner, ``height`` rows for the content, and the footer."""
    page = np.zeros((_BANNER + height + _FOOTER, width, 3), np.uint8)
    page[:_BANNER] = (60, 40, 0)
    _write(page, f"{RESEARCH_USE} - not for diagnosis", (12, 27), _AMBER, scale=0.7)
    return page


def _write(
    image: Picture,
    text: str,
    at: tuple[int, int],
    colour: tuple[int, int, int] = _WHITE,
    *,
    scale: float = 0.55,
    thickness: int = 1,
) -> None:
    """Write from ``at`` (column, row), with a dark rim that keeps it legible on tissue."""
    strokes = np.zeros(image.shape[:2], np.uint8)
    cv2.putText(strokes, text, at, _FONT, scale, 255, thickness, cv2.LINE_AA)
    rim = cv2.dilate(strokes, np.ones((3, 3), np.uint8))
    touched = rim > 0
    ink = strokes[touched, None] / 255.0
    faded = image[touched] * (1.0 - rim[touched, None] / 255.0)
    image[touched] = np.rint((1.0 - ink) * faded + ink * np.array(colour)).astype(np.uint8)


def _wrapped(text: str, width: int, scale: float) -> list[str]:
    """Break text into lines that are at most ``width`` pixels long."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if cv2.getTextSize(longer, _FONT, scale, 1)[0][0] <= width or not lines[-1]:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


def _windowed(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scale to 0..255 between the darkest and brightest half percent of the slice."""
    low, high = np.percentile(pixels, [0.5, 99.5])
    scaled: NDArray[np.float32] = np.clip((pixels - low) / max(high - low, 1e-6), 0, 1).astype(np.float32)
    return scaled * np.float32(255)


def _size(volume: MRVolume) -> tuple[int, int]:
    """Rows and columns of a slice with square pixels that fills the pane."""
    _, rows, columns = volume.shape
    _, row_mm, column_mm = volume.spacing_mm
    scale = _PANE / max(rows * row_mm, columns * column_mm)
    return max(1, round(rows * row_mm * scale)), max(1, round(columns * column_mm * scale))


def _squared(image: NDArray[np.float32], volume: MRVolume) -> NDArray[np.float32]:
    rows, columns = _size(volume)
    shrinks = rows < image.shape[0] and columns < image.shape[1]
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    resized: NDArray[np.float32] = cv2.resize(image, (columns, rows), interpolation=method)  # type: ignore[assignment]
    return resized


def _blended(anatomy: NDArray[np.float32], probability: NDArray[np.float32]) -> Picture:
    """Lay JET over the anatomy, the more opaque the more probable."""
    steps = np.rint(np.clip(probability, 0, 1) * 255).astype(np.uint8)
    heat = cv2.applyColorMap(steps, cv2.COLORMAP_JET)[:, :, ::-1]
    alpha = (_STRONGEST * np.clip(probability, 0, 1))[:, :, None]
    mixed: Picture = np.rint((1 - alpha) * anatomy + alpha * heat).astype(np.uint8)
    return mixed


def _outlined(image: Picture, labels: NDArray[np.uint16], volume: MRVolume) -> Picture:
    rows, columns = _size(volume)
    outlined = np.ascontiguousarray(image)
    for number in np.unique(labels[labels > 0]):
        mask = (labels == number).astype(np.uint8)
        fitted = cv2.resize(mask, (columns, rows), interpolation=cv2.INTER_NEAREST)
        contours, _ = cv2.findContours(fitted, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
        # white between colour and heat: the colour of a segment may be one of JET's
        for colour, thickness in (((0, 0, 0), 6), (_WHITE, 4), (rgb_of(int(number)), 2)):
            cv2.drawContours(outlined, contours, -1, colour, thickness, cv2.LINE_AA)
        largest = max(contours, key=cv2.contourArea)
        right, top = (int(value) for value in (largest[:, 0, 0].max(), largest[:, 0, 1].min()))
        at = (min(right + 4, columns - 30), max(top, 16))
        _write(outlined, str(number), at, rgb_of(int(number)), scale=0.6, thickness=2)
    return outlined


def _write_letters(pane: Picture, volume: MRVolume) -> None:
    """At each edge, which way it lies in the patient."""
    along_row, along_column = volume.affine[:3, 0], volume.affine[:3, 1]
    middle = _PANE // 2
    _write(pane, direction_letters(-along_row), (8, middle))
    right = direction_letters(along_row)
    _write(pane, right, (_PANE - 8 - 13 * len(right), middle))
    _write(pane, direction_letters(-along_column), (middle - 6, 20))
    _write(pane, direction_letters(along_column), (middle - 6, _PANE - 12))


def _draw_scale(pane: Picture) -> None:
    """A bar of the colours from 0 to 1."""
    ramp = np.linspace(255, 0, 160).astype(np.uint8)[:, None].repeat(10, axis=1)
    pane[20:180, _PANE - 22 : _PANE - 12] = cv2.applyColorMap(ramp, cv2.COLORMAP_JET)[:, :, ::-1]
    _write(pane, "1", (_PANE - 40, 32), _GREY, scale=0.5)
    _write(pane, "0", (_PANE - 40, 180), _GREY, scale=0.5)


def _slice_name(volume: MRVolume, index: int) -> str:
    frame = volume.frames[index]
    if frame.frame_number is not None:
        return f"Slice {index + 1} of {len(volume.frames)} (frame {frame.frame_number})"
    number = ascii_text(raw_text(volume.header_of(index), "InstanceNumber"), 12)
    instance = f" (image {number})" if number else ""
    return f"Slice {index + 1} of {len(volume.frames)}{instance}"
