"""Which patients train, which choose the threshold, which test."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import TypeVar

import numpy as np

from dicom_node.errors import ConfigurationError

SPLITS = ("train", "val", "test")

Key = TypeVar("Key", bound=Hashable)


def check_fractions(fractions: Sequence[float]) -> None:
    """Refuse fractions that are no shares of one whole.

    Raises
    ------
    ConfigurationError
        When they are not three, one is negative or no number, or they do not add up to 1.
    """
    sound = len(fractions) == len(SPLITS) and all(0 <= fraction <= 1 for fraction in fractions)
    if not sound or not math.isclose(sum(fractions), 1.0, abs_tol=1e-6):
        told = " ".join(f"{fraction:g}" for fraction in fractions)
        raise ConfigurationError(f"--split {told}: give the shares of train, val and test, which add up to 1")


def split_patients(tumour: Mapping[Key, bool], fractions: Sequence[float], seed: int) -> dict[Key, str]:
    """Draw a split for each patient, apart for those with and those without tumour.

    Parameters
    ----------
    tumour : for each patient, in any order, whether an image shows tumour; the keys can be sorted
    fractions : of train, val and test

    Returns
    -------
    The split by patient. A split of a fraction above 0 gets a patient of each kind as soon as
    there are as many as splits; fewer go to train first, then val.
    """
    check_fractions(fractions)
    random = np.random.default_rng(seed)
    drawn: dict[Key, str] = {}
    for kind in (True, False):
        patients = sorted((patient for patient, has in tumour.items() if has is kind), key=repr)
        order = random.permutation(len(patients))
        names = np.repeat(SPLITS, _counts(len(patients), fractions))
        drawn.update((patients[place], str(name)) for place, name in zip(order, names, strict=True))
    return drawn


def _counts(total: int, fractions: Sequence[float]) -> list[int]:
    """Share out by largest remainder, then from the largest share to each that would be empty."""
    exact = [total * fraction for fraction in fractions]
    counts = [math.floor(share + 1e-9) for share in exact]
    by_remainder = sorted(range(len(counts)), key=lambda k: counts[k] - exact[k])
    for k in by_remainder[: total - sum(counts)]:
        counts[k] += 1
    for k, fraction in enumerate(fractions):
        largest = counts.index(max(counts))
        if fraction > 0 and counts[k] == 0 and counts[largest] > 1:
            counts[largest] -= 1
            counts[k] += 1
    return counts
