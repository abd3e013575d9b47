"""A small synthetic data set in the layout of the real ones."""

import csv

import cv2
import numpy as np
import pytest

from dicom_node.phantom.brain import brain_phantom


@pytest.fixture(scope="session")
def small_data(tmp_path_factory):
    """Six phantoms of eight slices as an index.csv folder: four to train, one each to validate and test."""
    folder = tmp_path_factory.mktemp("small")
    splits = ["train"] * 4 + ["val", "test"]
    rows = []
    for number, split in enumerate(splits):
        phantom = brain_phantom(500 + number, shape=(8, 64, 64), spacing_mm=(12.0, 3.6, 3.6))
        bright = phantom.voxels / phantom.voxels.max() * 255
        for index, (image, mask) in enumerate(zip(bright, phantom.lesion, strict=True), start=1):
            name = f"p{number}_{index}.png"
            cv2.imwrite(str(folder / name), image.astype(np.uint8))
            cv2.imwrite(str(folder / f"m{name}"), mask.astype(np.uint8) * 255)
            rows.append((name, f"m{name}", f"p{number}", index, split))
    with (folder / "index.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("image", "mask", "patient", "slice", "split"))
        writer.writerows(reversed(rows))  # the order of the rows must not matter
    return folder
