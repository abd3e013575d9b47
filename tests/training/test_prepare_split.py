"""The split: by patient, by kind, the same for the same seed, and none left empty without need."""

import pytest

from dicom_node.errors import ConfigurationError
from training.prepare.split import split_patients

FRACTIONS = (0.7, 0.15, 0.15)


def counts(split: dict[int, str], members: set[int]) -> tuple[int, int, int]:
    names = [split[member] for member in members]
    return names.count("train"), names.count("val"), names.count("test")


def test_each_kind_is_shared_out_alike():
    tumour = {number: number % 5 == 0 for number in range(200)}
    split = split_patients(tumour, FRACTIONS, 0)
    assert counts(split, {n for n in tumour if tumour[n]}) == (28, 6, 6)
    assert counts(split, {n for n in tumour if not tumour[n]}) == (112, 24, 24)


def test_the_seed_alone_decides():
    tumour = {number: number % 2 == 0 for number in range(40)}
    backwards = dict(reversed(tumour.items()))
    assert split_patients(tumour, FRACTIONS, 3) == split_patients(backwards, FRACTIONS, 3)
    assert split_patients(tumour, FRACTIONS, 3) != split_patients(tumour, FRACTIONS, 4)


@pytest.mark.parametrize(
    ("total", "expected"),
    [(1, (1, 0, 0)), (2, (1, 1, 0)), (3, (1, 1, 1)), (4, (2, 1, 1)), (7, (5, 1, 1)), (10, (7, 2, 1))],
)
def test_few_patients_go_to_train_then_val_then_test(total, expected):
    split = split_patients(dict.fromkeys(range(total), True), FRACTIONS, 0)
    assert counts(split, set(split)) == expected


def test_a_share_of_nothing_stays_empty():
    split = split_patients(dict.fromkeys(range(10), True), (0.8, 0.2, 0.0), 0)
    assert counts(split, set(split)) == (8, 2, 0)


@pytest.mark.parametrize(
    "fractions", [(0.5, 0.5), (0.7, 0.2, 0.2), (1.2, -0.1, -0.1), (float("nan"), 0.5, 0.5)]
)
def test_shares_that_are_no_whole_are_refused(fractions):
    with pytest.raises(ConfigurationError, match="which add up to 1"):
        split_patients({1: True}, fractions, 0)
