"""A small series to send, and a process that can open nothing more."""

from __future__ import annotations

import resource
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from tests.support.spot import Series, affine_of, image_spot

SHAPE = (2, 20, 16)


@pytest.fixture
def paths(series_of: Series) -> list[Path]:
    return series_of(image_spot(affine_of(shape=SHAPE), shape=SHAPE))


@pytest.fixture
def out_of_descriptors() -> Callable[[], AbstractContextManager[None]]:
    """For as long as the block lasts."""

    @contextmanager
    def none_left() -> Iterator[None]:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    return none_left
