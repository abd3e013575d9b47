"""A small series to send."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.spot import Series, affine_of, image_spot

SHAPE = (2, 20, 16)


@pytest.fixture
def paths(series_of: Series) -> list[Path]:
    return series_of(image_spot(affine_of(shape=SHAPE), shape=SHAPE))
