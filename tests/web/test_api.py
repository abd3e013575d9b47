"""The API and the pages as a program gets them, from a running node.

Covered: detect and segment of PNG, JPEG, one DICOM image, a series, a zip; each form of the answer; what
is refused, and how; the OpenAPI description; orders; what other sites and machines may not; that names of
patients stand in no address and no log, and that the audit trail has who looks and takes. Not covered: what
the pages look like and do in a browser (test_pages_in_browser), limits of uploads one by one (test_uploads).
"""

from __future__ import annotations

import io
import re
import zipfile
from pathlib import Path

import cv2
import httpx
import numpy as np
import pydicom
import pytest
from pydicom.uid import SegmentationStorage

from dicom_node.log import series_id
from dicom_node.settings import load_settings
from dicom_node.workflow.acceptance import Acceptance
from dicom_node.workflow.database import open_ledger
from dicom_node.workflow.entry import State
from tests.support.running import wait_for
from tests.web.site import AUDIT, PATIENT_NAME, Site

pytestmark = pytest.mark.slow
TIMEOUT_S = 120
ACCESSED, TRANSFERRED = "110103", "110104"  # PS3.16 CID 400


def post(site: Site, path: str, *files: Path, **fields: str) -> httpx.Response:
    sent = [("files", (file.name, file.read_bytes())) for file in files]
    return httpx.post(f"{site.url}{path}", files=sent, data=fields, timeout=TIMEOUT_S)


def get(site: Site, path: str) -> httpx.Response:
    return httpx.get(f"{site.url}{path}", timeout=TIMEOUT_S)


def zipped(site: Site, name: str, paths: list[Path]) -> Path:
    with zipfile.ZipFile(site.folder / name, "w") as archive:
        for path in paths:
            archive.write(path, f"a folder/{path.name}")
        archive.writestr("a folder/notes.txt", "no image")
    return site.folder / name


def series(site: Site, name: str) -> list[Path]:
    return sorted((site.folder / name / "series").glob("*.dcm"))


@pytest.mark.parametrize("name", ["slice.png", "slice.jpg"])
def test_a_picture_is_judged(name: str, site: Site) -> None:
    answer = post(site, "/api/v1/detect", site.picture(name))
    assert answer.status_code == 200, answer.text
    (result,) = answer.json()["results"]
    assert result["kind"] == "picture"
    assert result["title"] == name
    assert result["found"] is True
    assert result["probability"] > 0.9
    assert result["bundle"] == "spot"


def test_a_series_in_a_zip_is_judged_slice_by_slice(site: Site) -> None:
    answer = post(site, "/api/v1/detect", zipped(site, "found.zip", series(site, "found")))
    (result,) = answer.json()["results"]
    assert result["kind"] == "series"
    assert [each["number"] for each in result["slices"]] == list(range(1, 13))
    shown = site.spot.mask.any(axis=(1, 2))
    assert [each["positive"] for each in result["slices"]] == shown.tolist()


def test_a_series_is_outlined_with_its_measures(site: Site) -> None:
    answer = post(site, "/api/v1/segment", *series(site, "found"))
    (result,) = answer.json()["results"]
    (lesion,) = result["lesions"]
    assert lesion["volume_ml"] == pytest.approx(site.spot.volume_ml, rel=0.05)
    assert result["outcome"].startswith("1 lesion")


def test_the_seg_lies_on_the_grid_of_the_series(site: Site) -> None:
    answer = httpx.post(
        f"{site.url}/api/v1/segment",
        files=[("files", (p.name, p.read_bytes())) for p in series(site, "found")],
        headers={"accept": "application/dicom"},
        timeout=TIMEOUT_S,
    )
    assert answer.headers["content-type"] == "application/dicom"
    segmentation = pydicom.dcmread(io.BytesIO(answer.content))
    source = pydicom.dcmread(series(site, "found")[0], stop_before_pixels=True)
    assert segmentation.Modality == "SEG"
    assert segmentation.StudyInstanceUID == source.StudyInstanceUID
    assert (segmentation.Rows, segmentation.Columns) == site.spot.mask.shape[1:]
    assert int(segmentation.pixel_array.sum()) == pytest.approx(int(site.spot.mask.sum()), rel=0.05)


def test_a_single_dicom_image_is_a_volume_of_one_slice(site: Site) -> None:
    index = int(site.spot.mask.sum(axis=(1, 2)).argmax())
    image = next(p for p in series(site, "found") if pydicom.dcmread(p).InstanceNumber == index + 1)
    answer = post(site, "/api/v1/segment", image, format="seg")
    assert answer.status_code == 200, answer.text
    segmentation = pydicom.dcmread(io.BytesIO(answer.content))
    assert int(segmentation.pixel_array.sum()) == pytest.approx(int(site.spot.mask[index].sum()), rel=0.1)


def test_the_report_can_be_had_too(site: Site) -> None:
    answer = post(site, "/api/v1/segment", *series(site, "found"), format="sr")
    assert pydicom.dcmread(io.BytesIO(answer.content)).Modality == "SR"


def test_the_picture_shows_the_slice_beside_its_heatmap(site: Site) -> None:
    answer = post(site, "/api/v1/segment", site.picture("slice.png"), format="png")
    assert answer.headers["content-type"] == "image/png"
    picture = cv2.imdecode(np.frombuffer(answer.content, np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None
    half = picture.shape[1] // 2
    left, right = picture[:, :half].astype(int), picture[:, half:].astype(int)
    assert (left[..., 0] == left[..., 2]).all(), "the left half is grey"
    assert (np.abs(right[..., 0] - right[..., 2]) > 60).any(), "the right half is not"


@pytest.mark.parametrize("format_", ["png", "seg"])
def test_without_a_tumour_there_is_nothing_to_segment(format_: str, site: Site) -> None:
    answer = post(site, "/api/v1/segment", *series(site, "none"), format=format_)
    assert answer.status_code == 409
    assert answer.json() == {"error": "no tumour to segment"}
    answer = post(site, "/api/v1/segment", *series(site, "none"))
    (result,) = answer.json()["results"]
    assert (result["found"], result["detail"], result["lesions"]) == (False, "no tumour to segment", [])


def test_the_bundle_can_be_chosen(site: Site) -> None:
    answer = post(site, "/api/v1/detect", site.picture("slice.png"), bundle="spot-other")
    assert answer.json()["results"][0]["bundle"] == "spot-other"
    answer = post(site, "/api/v1/detect", site.picture("slice.png"), bundle="../spot")
    assert answer.status_code == 422
    assert "spot" in answer.json()["error"]


def test_a_series_that_no_bundle_reads_says_why(site: Site) -> None:
    (result,) = post(site, "/api/v1/detect", *series(site, "skipped")).json()["results"]
    assert result["analysed"] is False
    assert "contrast is T1CE" in result["detail"]


def test_what_is_no_image_is_refused(site: Site, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    answer = post(site, "/api/v1/detect", tmp_path / "notes.txt")
    assert answer.status_code == 422
    assert "notes.txt: no PNG, no JPEG and no DICOM image" in answer.json()["error"]
    (tmp_path / "cut.png").write_bytes(site.picture("slice.png").read_bytes()[:200])
    (result,) = post(site, "/api/v1/detect", tmp_path / "cut.png").json()["results"]
    assert (result["analysed"], result["detail"]) == (False, "the picture is damaged")


def test_nothing_that_was_tried_stays_or_is_sent(site: Site) -> None:
    before = {path.name for path in (site.folder / "archive").iterdir()}
    post(site, "/api/v1/segment", *series(site, "found"))

    def gone() -> bool:
        return not any((site.folder / "var" / "trials").glob("*/*/out-*/seg.dcm"))

    wait_for(gone)
    assert {path.name for path in (site.folder / "archive").iterdir()} == before


def test_the_description_has_an_example_of_each_field(site: Site) -> None:
    schema = get(site, "/api/v1/openapi.json").json()
    assert set(schema["paths"]) >= {"/api/v1/detect", "/api/v1/segment", "/api/v1/models"}
    detected = schema["components"]["schemas"]["Answer"]["properties"]
    assert all("examples" in field for name, field in detected.items() if name != "slices")
    page = get(site, "/api").text
    assert "POST /api/v1/segment" in page
    names = [model["name"] for model in get(site, "/api/v1/models").json()]
    assert names == ["spot", "spot-other"]


@pytest.mark.parametrize(
    ("path", "status"),
    [("/series/999", 404), ("/series/1/slice/99", 404), ("/try/none", 404), ("/series/x", 422)],
)
def test_what_is_not_there_is_said_in_a_page(path: str, status: int, site: Site) -> None:
    answer = get(site, path)
    assert answer.status_code == status
    assert "Traceback" not in answer.text


def test_what_is_not_understood_is_named_but_not_repeated(site: Site) -> None:
    answer = httpx.post(f"{site.url}/series", data={"before": "Phantom^Brain"}, timeout=TIMEOUT_S)
    assert answer.status_code == 422
    assert "before" in answer.text
    assert "Phantom^Brain" not in answer.text
    answer = httpx.post(f"{site.url}/api/v1/detect", data={"bundle": "spot"}, timeout=TIMEOUT_S)
    assert answer.status_code == 422
    assert "files" in answer.json()["error"]


def test_an_order_that_cannot_be_taken_says_why(site: Site) -> None:
    number = site.entry("found").number
    answer = httpx.post(f"{site.url}/series/{number}/cancel", timeout=TIMEOUT_S)
    assert answer.status_code == 409
    assert "nothing to cancel" in answer.text


def test_analysing_again_with_another_bundle_makes_a_new_version(site: Site) -> None:
    first = site.entry("none")
    answer = httpx.post(
        f"{site.url}/series/{first.number}/analyse", data={"bundle": "spot-other"}, timeout=TIMEOUT_S
    )
    assert answer.status_code == 303
    site.wait_until_ended(5)
    second = site.entry("none")
    assert (second.version, second.bundle) == (first.version + 1, "spot-other")
    assert answer.headers["location"] == f"/series/{second.number}"
    assert '"name": "spot-other"' in (Path(second.folder or "") / "result.json").read_text()


def test_a_result_can_be_sent_again(site: Site) -> None:
    entry = site.entry("found")
    attempts = len(site.entry("found").deliveries)
    assert attempts == 2
    assert httpx.post(f"{site.url}/series/{entry.number}/resend", timeout=TIMEOUT_S).status_code == 303

    def sent_again() -> bool:
        happened = site.entry("found")
        return happened.state is State.UNDELIVERED and happened.updated_at > entry.updated_at

    wait_for(sent_again)


def test_another_site_may_send_nothing_and_another_name_reads_nothing(site: Site) -> None:
    number = site.entry("found").number
    for headers in ({"origin": "http://evil.example"}, {"sec-fetch-site": "cross-site"}, {"origin": "null"}):
        assert (
            httpx.post(f"{site.url}/series/{number}/resend", headers=headers, timeout=TIMEOUT_S).status_code
            == 403
        )
    assert httpx.get(site.url, headers={"host": "evil.example"}, timeout=TIMEOUT_S).status_code == 403
    assert "default-src 'self'" in get(site, "/series").headers["content-security-policy"]
    assert get(site, f"/series/{number}").headers["cache-control"] == "no-store"


def test_no_page_names_another_host(site: Site) -> None:
    for path in ("/series", f"/series/{site.entry('found').number}", "/node", "/api", "/try"):
        text = get(site, path).text
        named = re.findall(r"""(?:src|href|action)=["'](https?:)?//[^"']*""", text)
        assert named == [], path


def test_names_of_patients_are_shown_but_not_logged(site: Site) -> None:
    assert PATIENT_NAME in get(site, "/series").text
    httpx.post(f"{site.url}/series", data={"text": "Phantom^Brain"}, timeout=TIMEOUT_S)
    httpx.get(f"{site.url}/series/1/slice/99", timeout=TIMEOUT_S)
    log = (site.folder / "node.log").read_text()
    assert "Phantom" not in log
    assert "PHANTOM" not in log


def test_a_series_shows_its_own_lines_of_the_log_and_those_alone(site: Site) -> None:
    log = (site.folder / "node.log").read_text()
    name = {kind: series_id(site.uid(kind)) for kind in ("found", "failed")}
    page = get(site, f"/series/{site.entry('failed').number}").text
    told = page.partition("Lines of the log")[2].partition("</details>")[0]
    assert name["failed"] in log
    assert told.count("<li>") >= 2
    assert "job=" in told
    assert name["found"] not in told
    assert site.uid("found") not in told
    assert "Phantom" not in told


def audited(site: Site, code: str) -> list[str]:
    """Messages of one kind about the series ``found``, by its patient's name."""
    lines = (site.folder / AUDIT).read_text().splitlines()
    return [line for line in lines if f'csd-code="{code}"' in line and "(without login)" in line]


def test_who_looks_at_a_series_and_takes_its_files_is_written_down_once(site: Site) -> None:
    number = site.entry("found").number
    for path in ("", "/slice/3", "/slice/4", "/slice/4/heatmap", "/picture/4", ""):
        assert get(site, f"/series/{number}{path}").status_code == 200
    assert get(site, f"/series/{number}/file/seg").status_code == 200
    wait_for(lambda: audited(site, TRANSFERRED))
    study = pydicom.dcmread(series(site, "found")[0], stop_before_pixels=True).StudyInstanceUID
    looked = [line for line in audited(site, ACCESSED) if study in line]
    assert len(looked) == 1
    assert 'UserIsRequestor="true" NetworkAccessPointID="127.0.0.1"' in looked[0]
    (taken,) = audited(site, TRANSFERRED)
    assert study in taken
    assert f'UID="{SegmentationStorage}" NumberOfInstances="1"' in taken


def test_a_class_that_a_destination_refuses_is_told_on_the_page_of_the_node(site: Site) -> None:
    settings = load_settings(site.folder / "node.toml")
    (archive,) = (each for each in settings.destinations if each.name == "archive")
    ledger = open_ledger(settings)
    acceptance = Acceptance(ledger)
    try:
        assert "takes no" not in get(site, "/node").text
        acceptance.note_refusal(archive, SegmentationStorage)
        assert "takes no Segmentation Storage: offered again after" in get(site, "/node").text
    finally:
        acceptance.forget_refusals(archive)
        ledger.close()


def test_the_node_page_masks_what_is_secret(site: Site) -> None:
    text = get(site, "/node").text
    assert "site.uid_salt" in text
    assert "(set, not shown)" in text
    assert "Sees <em>bright</em> spots" in text


def test_destinations_are_asked(site: Site) -> None:
    assert "answers" in httpx.post(f"{site.url}/node/echo/archive", timeout=TIMEOUT_S).text
    assert "bad" in httpx.post(f"{site.url}/node/echo/down", timeout=TIMEOUT_S).text
    assert httpx.post(f"{site.url}/node/echo/nobody", timeout=TIMEOUT_S).status_code == 404


def test_a_body_of_unknown_length_is_refused_whatever_length_is_sent_with_it(site: Site) -> None:
    for headers in ({}, {"content-length": "5"}):
        chunks = iter([b"--b\r\n"])
        answer = httpx.post(
            f"{site.url}/api/v1/detect",
            content=chunks,
            headers={
                "content-type": "multipart/form-data; boundary=b",
                "transfer-encoding": "chunked",
                **headers,
            },
            timeout=TIMEOUT_S,
        )
        assert answer.status_code == 411
