"""The retry policy's figures. What uses them is covered by test_dead_letters.py."""

from __future__ import annotations

import pytest

from dicom_node.settings import Destination
from dicom_node.workflow.retry import Policy

DESTINATION = Destination(name="a", ae_title="A", host="a", port=1, retry_for_hours=1, retry_attempts=9)


def test_waits_double_up_to_the_longest_with_jitter() -> None:
    policy = Policy(first_s=2, longest_s=300, for_s=1e9)
    for attempt, longest_s in [(1, 2), (2, 4), (3, 8), (8, 256), (9, 300), (500, 300)]:
        waits = [policy.wait_s(attempt, 0) for _ in range(50)]
        assert all(longest_s / 2 <= wait <= longest_s for wait in waits)
        assert len(set(waits)) > 1


@pytest.mark.parametrize(
    ("attempt", "age_s", "goes_on"),
    [(1, 0, True), (8, 0, True), (9, 0, False), (1, 3590, True), (1, 3601, False)],
)
def test_it_ends_after_the_attempts_or_the_age_of_the_destination(
    attempt: int, age_s: float, goes_on: bool
) -> None:
    assert (Policy.of(DESTINATION).wait_s(attempt, age_s) is not None) is goes_on


def test_without_a_limit_of_attempts_only_the_age_counts() -> None:
    assert Policy(first_s=1, longest_s=1, for_s=100).wait_s(10**6, 0) is not None
