"""The walk over data sets that are damaged at random, or made of elements in no order.

Covers: an answer or ``InstanceRefused`` and nothing else, in bounded time and memory; that the first bytes
never tell other than the whole. Not covered: what is refused and why, case by case
(tests/receive/test_header.py); the protocol around it (tests/receive/test_hostile.py).
"""

from __future__ import annotations

from functools import cache
from random import Random

import pytest

from dicom_node.errors import InstanceRefused
from dicom_node.receive.header import Header, header_at_start, read_header
from tests.fuzz.budget import tries, within_bounds
from tests.fuzz.damage import SYNTAXES, damaged, data_set, real_files, small_series, split

LIMIT = 1 << 20


@cache
def sound() -> list[tuple[str, bytes]]:
    return [split(whole) for whole in (*real_files(), *(series[0] for series in small_series()))]


def any_input(rng: Random) -> tuple[str, bytes]:
    if rng.random() < 0.4:
        return rng.choice(SYNTAXES), data_set(rng)
    syntax, encoded = rng.choice(sound())
    return rng.choice((syntax, syntax, syntax, rng.choice(SYNTAXES))), damaged(encoded, rng)


def read(syntax: str, encoded: bytes) -> Header | None:
    try:
        return read_header(encoded, syntax, LIMIT)
    except InstanceRefused:
        return None


@pytest.mark.slow
def test_a_damaged_data_set_is_read_or_refused() -> None:
    answers = 0
    for number, rng in tries(5000):
        syntax, encoded = any_input(rng)
        with within_bounds(number):
            header = read(syntax, encoded)
            start = header_at_start(encoded, syntax)
        answers += header is not None
        if start is not None and start[1] == len(encoded):
            assert start[0] == header, number
    assert answers > 60, "hardly any input reaches the end: the damage is too great to find anything"
