"""One node with its page for all tests of the page and the API."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.web.site import Site, serve_site


@pytest.fixture(scope="package")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with serve_site(tmp_path_factory.mktemp("site")) as running:
        yield running
