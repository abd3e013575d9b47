"""A synthetic head, FLAIR-like or T1 post-contrast-like, with one lesion of known place and volume.

It stands in for a patient where none may be used: in the self-test, the demonstration, the
stored reference of a bundle, and as a small part of the training data. Nothing in it comes from
an image of a person. It looks like a head, and measures like one; it is no model of physics.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.special import expit

Volume = NDArray[np.float32]
PhantomContrast = Literal["FLAIR", "T1CE"]

HALF_HEAD_MM = (70.0, 88.0, 74.0)  # left-right, front-back, centre to vertex
BELOW_MM = 150.0  # below its centre the head narrows more slowly: there is a neck
BOX_MM = 160.0  # half side of the cube in which the anatomy is defined, whatever the sampling
SCALP_MM = 5.0
BONE_MM = 4.5
CSF_MM = 2.0
CORTEX_MM = 3.5
UNITS = 800.0  # signal of 1.0 in arbitrary scanner units


@dataclass(frozen=True)
class Phantom:
    """One synthetic head.

    Attributes
    ----------
    voxels : float32, (slices, rows, columns)
        Arbitrary MR-like units, at least 0. Slices run from feet to head, rows from front to
        back and columns from the patient's right to left, so that with rows along +y and columns
        along +x (LPS) it is a usual axial series.
    lesion : bool, same shape
        Where the lesion contributes at least half of the signal.
    spacing_mm : distance between neighbouring (slices, rows, columns)
    centre : (slice, row, column) of the lesion's centre of mass, or None without a lesion
    volume_ml : of the lesion; 0 without one
    """

    voxels: Volume
    lesion: NDArray[np.bool_]
    spacing_mm: tuple[float, float, float]
    centre: tuple[float, float, float] | None
    volume_ml: float


class _Frame:
    """Sampling positions in mm from the centre of the head, and smooth random fields on them."""

    def __init__(
        self, shape: tuple[int, int, int], spacing_mm: tuple[float, float, float], random: np.random.Generator
    ) -> None:
        def axis(count: int, step: float) -> Volume:
            return ((np.arange(count) - (count - 1) / 2) * step).astype(np.float32)

        z, y, x = (axis(count, step) for count, step in zip(shape, spacing_mm, strict=True))
        self.z, self.y, self.x = z[:, None, None], y[None, :, None], x[None, None, :]
        self.shape = shape
        self._random = random

    def smooth(self, scale_mm: float) -> Volume:
        """Draw a random field of about unit variance whose features are about ``scale_mm`` wide."""
        count = int(np.ceil(2 * BOX_MM / scale_mm)) + 2
        knots = self._random.standard_normal((count, count, count), dtype=np.float32)
        rows, columns = np.broadcast_arrays(self.y[0], self.x[0])
        map_rows = np.ascontiguousarray((rows + BOX_MM) / scale_mm, np.float32)
        map_columns = np.ascontiguousarray((columns + BOX_MM) / scale_mm, np.float32)
        position = np.clip((self.z[:, 0, 0] + BOX_MM) / scale_mm, 0, count - 1.001)
        field = np.empty(self.shape, np.float32)
        for index, at in enumerate(position):
            below = int(at)
            layer = (1 - (at - below)) * knots[below] + (at - below) * knots[below + 1]
            field[index] = cv2.remap(
                layer, map_columns, map_rows, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT
            )
        return field * np.float32(1.6)  # interpolation lowers the variance


def _step(distance_mm: NDArray[np.floating], width_mm: float) -> Volume:
    """0 to 1 where a distance becomes positive, over about ``width_mm``."""
    risen: Volume = expit(np.asarray(distance_mm, np.float32) * np.float32(4 / width_mm))
    return risen


def _ellipsoid(
    frame: _Frame, centre_mm: tuple[float, float, float], half_mm: tuple[float, float, float]
) -> Volume:
    """Roughly the depth in mm inside an ellipsoid given as (x, y, z); negative outside."""
    (cx, cy, cz), (hx, hy, hz) = centre_mm, half_mm
    radius = np.sqrt(((frame.x - cx) / hx) ** 2 + ((frame.y - cy) / hy) ** 2 + ((frame.z - cz) / hz) ** 2)
    depth: Volume = ((1 - radius) * np.float32(min(half_mm))).astype(np.float32)
    return depth


def _head_depth(frame: _Frame, random: np.random.Generator) -> Volume:
    """Depth in mm below the skin; negative in the air."""
    half_x, half_y, half_z = (half * random.uniform(0.93, 1.07) for half in HALF_HEAD_MM)
    height = np.where(frame.z > 0, half_z, BELOW_MM).astype(np.float32)
    # a forehead narrower than the back of the head
    width = half_x * (1 + 0.06 * np.tanh(frame.y / 50.0))
    radius = np.sqrt((frame.x / width) ** 2 + (frame.y / half_y) ** 2 + (frame.z / height) ** 2)
    depth: Volume = ((1 - radius) * (0.5 * (half_x + half_y)) + 1.2 * frame.smooth(40.0)).astype(np.float32)
    return depth


def _tissue(
    frame: _Frame, depth: Volume, contrast: PhantomContrast, random: np.random.Generator
) -> tuple[Volume, Volume]:
    """Signal of a healthy head, and the depth in mm below the surface of its brain."""
    white = random.uniform(0.34, 0.42)
    grey = white * random.uniform(1.15, 1.3)
    fluid = white * random.uniform(0.25, 0.45)
    fat = random.uniform(0.7, 1.5)
    if contrast == "T1CE":
        white *= 1.4
        grey = white - (grey - white)
    brain_depth = depth - np.float32(SCALP_MM + BONE_MM + CSF_MM)

    folds = frame.smooth(9.0)
    cortex = 1 - _step(brain_depth - CORTEX_MM - 3.0 * np.abs(folds), 2.0)
    signal = white + (grey - white) * cortex + 0.02 * frame.smooth(14.0)
    # deep grey matter, on both sides
    for side in (-1.0, 1.0):
        nucleus = _ellipsoid(frame, (side * 24.0, 2.0, 6.0), (9.0, 18.0, 12.0))
        signal += (grey - white) * 0.7 * _step(nucleus, 4.0)

    # sulci: the level surfaces of a smooth field, near the surface of the brain only
    sulcus = _step(0.13 - np.abs(folds), 0.2) * (1 - _step(brain_depth - 13.0, 6.0))
    fissure = _step(1.0 - np.abs(frame.x + 1.5 * frame.smooth(60.0)), 1.2)
    fissure = fissure * (1 - _step(_ellipsoid(frame, (0.0, 0.0, 0.0), (12.0, 38.0, 30.0)), 4.0))
    swelling = random.uniform(0.8, 1.25)
    ventricles = np.zeros(frame.shape, np.float32)
    for side in (-1.0, 1.0):
        front = _ellipsoid(frame, (side * 8.0, -20.0, 12.0), (5.0 * swelling, 16.0, 12.0))
        body = _ellipsoid(frame, (side * 9.0, 0.0, 18.0), (4.5 * swelling, 26.0, 9.0))
        back = _ellipsoid(frame, (side * 15.0, 22.0, 10.0), (5.5 * swelling, 15.0, 11.0))
        ventricles = np.maximum(ventricles, _step(np.maximum.reduce([front, body, back]), 2.0))
    fourth = _ellipsoid(frame, (0.0, 30.0, -42.0), (6.0, 6.0, 12.0))
    water = np.maximum.reduce([0.75 * sulcus, 0.8 * fissure, ventricles, _step(fourth, 2.0)])
    signal += (fluid - signal) * water

    # from the outside in: skin and fat, bone, fluid under the bone
    bone, layer = white * 0.22, np.float32(SCALP_MM)
    signal += (fluid - signal) * (1 - _step(brain_depth, 1.5))
    signal += (bone - signal) * (1 - _step(depth - layer - np.float32(BONE_MM), 1.5))
    scalp = fat * (0.75 + 0.12 * frame.smooth(20.0))
    signal += (scalp - signal) * (1 - _step(depth - layer, 1.5))
    return signal.astype(np.float32), brain_depth


def _face_and_base(frame: _Frame, signal: Volume, random: np.random.Generator) -> None:
    """Put eyes, nasal air and petrous bone into the lowest slices, in place."""
    for side in (-1.0, 1.0):
        orbit = _ellipsoid(frame, (side * 30.0, -66.0, -44.0), (17.0, 19.0, 15.0))
        globe = _ellipsoid(frame, (side * 30.0, -68.0, -44.0), (11.5, 11.5, 11.5))
        petrous = _ellipsoid(frame, (side * 42.0, 14.0, -52.0), (24.0, 8.0, 9.0))
        signal += (random.uniform(0.6, 0.9) - signal) * _step(orbit, 2.0)
        signal += (0.14 - signal) * _step(globe, 1.5)
        signal += (0.10 - signal) * _step(petrous + frame.smooth(12.0), 3.0)
    nose = _ellipsoid(frame, (0.0, -60.0, -56.0), (14.0, 26.0, 16.0))
    signal += (0.05 - signal) * _step(nose + 2.0 * frame.smooth(10.0), 3.0)


def _lesion_weight(frame: _Frame, brain_depth: Volume, random: np.random.Generator) -> Volume:
    """How much of each voxel is lesion, 0 to 1: an irregular ellipsoid on one side of the midline."""
    side = random.choice([-1.0, 1.0])
    centre = (side * random.uniform(26.0, 38.0), random.uniform(-36.0, 40.0), random.uniform(-8.0, 30.0))
    size = random.uniform(12.0, 20.0)
    stretch = random.uniform((0.8, 0.9, 0.85), (1.1, 1.35, 1.1))
    half = (size * stretch[0], size * stretch[1], size * stretch[2])
    depth = _ellipsoid(frame, centre, half) + 0.10 * np.float32(size) * frame.smooth(12.0)
    inside_brain = _step(brain_depth - 1.0, 2.0)
    weight = _step(depth, random.uniform(2.5, 5.0)) * inside_brain
    # one lesion only: what the irregularity cut off is left out
    pieces, count = ndimage.label(weight > 0.2)
    if count > 1:
        main = 1 + int(np.argmax(np.bincount(pieces.ravel())[1:]))
        weight[(pieces > 0) & (pieces != main)] = 0.0
    return weight


def _core(weight: Volume, spacing_mm: tuple[float, float, float], seed: int) -> Volume:
    """How much less the middle of an enhancing lesion shines; one in three enhances throughout."""
    random = np.random.default_rng((seed, 1))
    rim_mm, fall = random.uniform(3.0, 8.0), random.choice([0.0, 0.5, 0.7])
    depth_mm = ndimage.distance_transform_edt(weight >= 0.5, sampling=spacing_mm)
    return np.float32(fall) * _step(np.asarray(depth_mm) - rim_mm, 2.0)


def brain_phantom(
    seed: int,
    shape: tuple[int, int, int] = (24, 256, 256),
    spacing_mm: tuple[float, float, float] = (5.0, 0.9, 0.9),
    *,
    contrast: PhantomContrast = "FLAIR",
    lesion: bool = True,
    noise: float | None = None,
) -> Phantom:
    """Make a head; the same arguments always give the same one.

    The anatomy is drawn in mm, so another shape or spacing samples the same head (its noise
    differs). Seed 0 is the head of the self-test and the demonstration; trainings use seeds from
    1000 on.

    Parameters
    ----------
    seed : which head
    shape : (slices, rows, columns)
    spacing_mm : distance between neighbouring (slices, rows, columns)
    contrast : ``T1CE`` is T1-weighted with contrast medium: the lesion is bright, most with a dark core
    lesion : whether there is one; the head is the same without it
    noise : standard deviation of the receiver's noise as a fraction of the unit signal
        (white matter has about 0.4); drawn from 0.006 to 0.02 when not given
    """
    random = np.random.default_rng(seed)
    frame = _Frame(shape, spacing_mm, random)
    depth = _head_depth(frame, random)
    signal, brain_depth = _tissue(frame, depth, contrast, random)
    _face_and_base(frame, signal, random)

    # drawn in any case, so that the head is the same with and without the lesion
    weight = _lesion_weight(frame, brain_depth, random)
    brightness = random.uniform(0.68, 0.9)
    inhomogeneity = 0.05 * frame.smooth(10.0)
    if lesion:
        inside = brightness + inhomogeneity
        if contrast == "T1CE":
            inside = inside * 1.25 - _core(weight, spacing_mm, seed)
        signal += (inside - signal) * weight
    mask = weight >= 0.5 if lesion else np.zeros(shape, bool)

    signal *= _step(depth, 1.2)
    signal *= np.exp(random.uniform(0.05, 0.14) * frame.smooth(130.0))
    for index in range(shape[0]):  # an in-plane point spread of about a voxel
        signal[index] = cv2.GaussianBlur(signal[index], (0, 0), 0.6)

    drawn = random.uniform(0.006, 0.02)
    sigma = np.float32(drawn if noise is None else noise)
    real = signal + sigma * random.standard_normal(shape, dtype=np.float32)
    imaginary = sigma * random.standard_normal(shape, dtype=np.float32)
    voxels = np.hypot(real, imaginary) * np.float32(UNITS * random.uniform(0.6, 1.6))

    place = np.argwhere(mask).mean(axis=0) if mask.any() else None
    return Phantom(
        voxels=voxels.astype(np.float32),
        lesion=mask,
        spacing_mm=spacing_mm,
        centre=None if place is None else (float(place[0]), float(place[1]), float(place[2])),
        volume_ml=float(np.count_nonzero(mask)) * float(np.prod(spacing_mm)) / 1000.0,
    )
