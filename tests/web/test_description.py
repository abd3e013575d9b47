"""Schemathesis asks the node what its own description (OpenAPI) says can be asked.

Covers: each operation of the API with what the description allows and what it forbids: no error of the
program, no status, content or field that the description does not know; and each address of the page
with values of any kind: no error of the program. Always the same requests. Not covered: what the
answers mean (test_api), access (test_access), files that get as far as a decoder (tests/fuzz).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import schemathesis
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi import checks
from schemathesis.specs.openapi.schemas import OpenApiSchema

from dicom_node.phantom.mr_series import mr_series, write_series
from dicom_node.receive.completion import Completion
from dicom_node.receive.spool import Spool
from dicom_node.settings import load_settings
from dicom_node.web import api_page, node_pages, series_list, series_pages, trial_pages
from dicom_node.web.app import create_app
from dicom_node.web.node_view import NodeView
from dicom_node.web.server import WebServer
from dicom_node.workflow.ledger import Ledger
from dicom_node.workflow.stations import Stations
from tests.support.bundles import write_spot_bundle
from tests.support.running import free_port, write_configuration
from tests.support.spot import affine_of, image_spot

pytestmark = pytest.mark.slow
SHAPE = (4, 48, 40)
TIMEOUT_S = 120
BUDGET = settings(
    max_examples=12,
    derandomize=True,
    database=None,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
CONFORM = [
    not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
    checks.response_headers_conformance,
    checks.negative_data_rejection,
    checks.unsupported_method,
    checks.allow_header_conformance,
]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, FastAPI]]:
    """A node's page and API with one series in its book, and where they are."""
    folder = tmp_path_factory.mktemp("described")
    write_spot_bundle(folder / "models" / "spot")
    path = write_configuration(
        folder / "node.toml", port=free_port(), models=folder / "models", destinations={"pacs": ("PACS", 4)}
    )
    port = free_port()
    path.write_text(path.read_text().replace("[web]\nenabled = false", f"[web]\nport = {port}"))
    node = load_settings(path)
    ledger, spool = Ledger(node.folder / "ledger.sqlite"), Spool(node.folder / "spool", minimum_free_mb=0)
    spot = image_spot(affine_of(shape=SHAPE), shape=SHAPE)
    datasets = mr_series(spot.voxels, spot.affine)
    uid = str(datasets[0].SeriesInstanceUID)
    write_series(datasets, node.folder / "spool" / "series" / uid)
    ledger.open_job(f"{uid}-0", uid, len(datasets))
    app = create_app(
        NodeView(
            node,
            Stations(node),
            ledger,
            spool,
            Completion(node.completion, spool, lambda _: None),
            node.folder / "trials",
        )
    )
    server = WebServer(node.web, app)
    server.start()
    yield server.url, app
    server.stop()
    ledger.close()


def described(served: tuple[str, FastAPI], description: dict) -> OpenApiSchema:
    schema = schemathesis.openapi.from_dict(description)
    schema.config.update(base_url=served[0])
    return schema


@pytest.fixture(scope="module")
def api(served: tuple[str, FastAPI]) -> OpenApiSchema:
    return described(served, served[1].openapi())


@pytest.fixture(scope="module")
def pages(served: tuple[str, FastAPI]) -> OpenApiSchema:
    """What the description leaves out: the addresses that people open."""
    parts = (api_page, trial_pages, series_list, series_pages, node_pages)
    hidden = [each for part in parts for each in part.router.routes if isinstance(each, APIRoute)]
    for each in hidden:
        each.include_in_schema = True
    try:
        return described(served, get_openapi(title="pages", version="1", routes=hidden))
    finally:
        for each in hidden:
            each.include_in_schema = False


def ask(schema: OpenApiSchema, checked: list[Callable], modes: list[GenerationMode]) -> None:
    """Send the requests of each operation, those that are allowed and those that are not."""
    asked = 0
    for found in schema.get_all_operations():
        operation = found.ok()
        takes_nothing = not (operation.body or operation.query or operation.path_parameters)
        for mode in modes[:1] if takes_nothing else modes:

            @BUDGET
            @given(case=operation.as_strategy(generation_mode=mode))
            def one_operation(case: Case) -> None:
                case.call_and_validate(checks=checked, timeout=TIMEOUT_S)

            one_operation()
        asked += 1
    assert asked >= 3


def test_the_api_answers_as_its_description_says(api: OpenApiSchema) -> None:
    ask(api, CONFORM, [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])


def test_no_address_of_the_page_brings_an_error_of_the_program(pages: OpenApiSchema) -> None:
    ask(pages, [not_a_server_error], [GenerationMode.POSITIVE])
