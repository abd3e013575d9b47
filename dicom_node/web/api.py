"""The API: files in, an answer out; for programs what the page is for people."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from typing import Annotated, Any

from fastapi import APIRouter, File, Form, Header, HTTPException, Request, UploadFile
from fastapi.responses import FileResponse, JSONResponse, Response
from pydantic import BaseModel, Field
from starlette.background import BackgroundTask

from dicom_node.errors import TransientError
from dicom_node.web.access.needs import RoleFirst, needs
from dicom_node.web.access.roles import Role
from dicom_node.web.models import installed
from dicom_node.web.node_view import NodeView, View
from dicom_node.web.pictures import encoded, side_by_side
from dicom_node.web.slices import png
from dicom_node.web.trial_item import Doing, Item
from dicom_node.web.trial_pages import Tried
from dicom_node.web.trials import Trial, Trials
from dicom_node.web.uploads import remove, take

TIMEOUT_S = 600.0
AT_ONCE = 8  # requests
_waiting = threading.BoundedSemaphore(AT_ONCE)

router = APIRouter(route_class=RoleFirst, prefix="/api/v1", tags=["analysis"])


class Format(StrEnum):
    """Of the answer to ``segment``."""

    JSON = "json"
    PNG = "png"
    SEG = "seg"
    SR = "sr"


_ACCEPTED = {
    "image/png": Format.PNG,
    "application/dicom": Format.SEG,
    "application/json": Format.JSON,
}


class SliceAnswer(BaseModel):
    """What the detector says of one slice."""

    number: int = Field(description="from 1, along the normal of the slices", examples=[14])
    probability: float = Field(description="of a tumour, 0 to 1", examples=[0.9973])
    positive: bool = Field(description="at or above the threshold", examples=[True])


class LesionAnswer(BaseModel):
    """One region of a series; sizes are known of DICOM images only."""

    number: int = Field(examples=[1])
    volume_ml: float = Field(examples=[22.6])
    long_axis_mm: float = Field(examples=[46.3])
    perpendicular_axis_mm: float = Field(examples=[38.7])
    first_slice: int = Field(examples=[10])
    last_slice: int = Field(examples=[17])
    largest_slice: int = Field(examples=[14])
    mean_probability: float = Field(examples=[0.91])
    maximum_probability: float = Field(examples=[0.999])


class Answer(BaseModel):
    """What is said of one picture or series."""

    title: str = Field(description="name of the file, or description of the series", examples=["AX FLAIR"])
    kind: str = Field(description="picture or series", examples=["series"])
    analysed: bool = Field(examples=[True])
    detail: str = Field(description="why it was not analysed, or what there is to add", examples=[""])
    bundle: str = Field(examples=["flair-glioma"])
    version: str = Field(examples=["0.2.0"])
    finding: str = Field(description="what is looked for", examples=["tumour"])
    threshold: float = Field(examples=[0.38])
    found: bool = Field(description="whether a slice is positive", examples=[True])
    probability: float | None = Field(description="the highest of all slices", examples=[0.9998])
    slices: list[SliceAnswer]


class SegmentAnswer(Answer):
    """What is said of one picture or series, with what was outlined."""

    outcome: str = Field(description="in a sentence", examples=["1 lesion, 22.6 ml"])
    lesions: list[LesionAnswer] = Field(description="of a series; empty for a picture")


class Detected(BaseModel):
    """The answer to ``detect``."""

    notice: str = Field(examples=["RESEARCH USE ONLY"])
    results: list[Answer]


class Segmented(BaseModel):
    """The answer to ``segment``."""

    notice: str = Field(examples=["RESEARCH USE ONLY"])
    results: list[SegmentAnswer]


class Refusal(BaseModel):
    """Why there is no answer."""

    error: str = Field(examples=["no tumour to segment"])


class ModelAnswer(BaseModel):
    """An installed bundle."""

    name: str = Field(examples=["flair-glioma"])
    version: str = Field(examples=["0.2.0"])
    contrasts: list[str] = Field(examples=[["FLAIR"]])
    planes: list[str] = Field(examples=[["AXIAL"]])
    finding: str = Field(examples=["tumour"])
    in_use: bool = Field(description="whether it is loaded")
    limitations: str
    figures: dict[str, float]


NOTICE = "RESEARCH USE ONLY"

Files = Annotated[list[UploadFile], File(description="PNG, JPEG, DICOM, or zip files of them")]
BundleName = Annotated[str, Form(description="an installed bundle; empty: what fits")]
_text = {"text/plain": {"schema": {"type": "string"}}}
_refusals: dict[int | str, dict[str, Any]] = {
    400: {"model": Refusal, "description": "the form is damaged"},
    403: {"content": _text, "description": "the request comes from another site, or by another name"},
    411: {"content": _text, "description": "the length of the body is not sent with it"},
    413: {"content": _text, "description": "the body is larger than may be"},
    409: {"model": Refusal, "description": "there is nothing of that kind to give"},
    422: {"model": Refusal, "description": "the files or the bundle cannot be used"},
    503: {"model": Refusal, "description": "the node has too much to do; try again"},
}


@router.get("/models", response_model=list[ModelAnswer], summary="The installed models")
@needs(Role.VIEWER)
def models(node: View) -> list[ModelAnswer]:
    """List what files can be analysed with."""
    return [
        ModelAnswer(
            name=manifest.name,
            version=manifest.version,
            contrasts=list(manifest.contrasts),
            planes=list(manifest.planes),
            finding=manifest.finding.label,
            in_use=manifest.name in node.stations.bundles,
            limitations=manifest.limitations,
            figures=manifest.figures,
        )
        for manifest in installed(node)
    ]


@router.post("/detect", response_model=Detected, responses=_refusals, summary="Is there a tumour?")
@needs(Role.OPERATOR)
def detect(node: View, trials: Tried, files: Files, bundle: BundleName = "") -> Response:
    """Judge every slice of the pictures and series that are sent; nothing is kept.

    `curl -F files=@slice.png http://127.0.0.1:8080/api/v1/detect`
    """
    with _one_of_few():
        trial = _begin(node, trials, files, bundle)
        try:
            for item in trial.items:
                trials.wait(item, TIMEOUT_S)
            results = [Answer(**_answer(item)) for item in trial.items]
        finally:
            trials.forget(trial)
    return JSONResponse(Detected(notice=NOTICE, results=results).model_dump())


@router.post(
    "/segment",
    response_model=Segmented,
    responses=_refusals
    | {
        200: {
            "description": "JSON; or a PNG or DICOM object of the first picture or series",
            "content": {"image/png": {}, "application/dicom": {}},
        }
    },
    summary="Where is the tumour?",
)
@needs(Role.OPERATOR)
def segment(
    request: Request,
    node: View,
    trials: Tried,
    files: Files,
    bundle: BundleName = "",
    format_: Annotated[
        Format | None, Form(alias="format", description="of the answer; without it, what Accept asks for")
    ] = None,
    accept: Annotated[str, Header(include_in_schema=False)] = "",
) -> Response:
    """Outline what the detector finds in the pictures and series that are sent; nothing is kept.

    `curl -F files=@series.zip -F format=seg http://127.0.0.1:8080/api/v1/segment -o seg.dcm`
    """
    wanted = format_ or next((f for kind, f in _ACCEPTED.items() if kind in accept), Format.JSON)
    with _one_of_few():
        trial = _begin(node, trials, files, bundle)
        try:
            for item in trial.items:
                trials.wait(item, TIMEOUT_S)
                trials.outline(item)
                trials.wait(item, TIMEOUT_S)
            answer = _segmented(trials, trial, wanted)
        except BaseException:
            trials.forget(trial)
            raise
    answer.background = BackgroundTask(trials.forget, trial)
    return answer


@contextmanager
def _one_of_few() -> Iterator[None]:
    """Let few requests wait at a time: each holds a thread that the page needs, too."""
    if not _waiting.acquire(blocking=False):
        raise TransientError(f"{AT_ONCE} requests are being worked on; try again")
    try:
        yield
    finally:
        _waiting.release()


def _begin(node: NodeView, trials: Trials, files: Sequence[UploadFile], bundle: str) -> Trial:
    folder = trials.new_folder()
    try:
        named = [(each.filename or "", each.file) for each in files]
        return trials.begin(folder, take(named, folder / "in", node.settings.web), bundle)
    except BaseException:
        remove(folder)
        raise


def _segmented(trials: Trials, trial: Trial, wanted: Format) -> Response:
    first = trial.items[0]
    if wanted is Format.JSON:
        results = [
            SegmentAnswer(**_answer(item), outcome=item.outcome, lesions=item.summary.get("lesions", []))
            for item in trial.items
        ]
        return JSONResponse(Segmented(notice=NOTICE, results=results).model_dump())
    if first.doing is not Doing.OUTLINED:
        raise HTTPException(409, first.detail or f"no {first.finding} to segment")
    if wanted is Format.PNG:
        shown = trials.shown(trial, first)
        return png(encoded(side_by_side(shown, shown.key_slice)))
    path = first.folder / f"{wanted}.dcm"
    if not path.is_file():
        raise HTTPException(409, f"there is no {wanted}: {first.outcome or 'a picture has no DICOM result'}")
    return FileResponse(path, media_type="application/dicom", filename=path.name)


def _answer(item: Item) -> dict[str, Any]:
    return {
        "title": item.title,
        "kind": "picture" if item.is_picture else "series",
        "analysed": item.doing in (Doing.DETECTED, Doing.OUTLINED),
        "detail": item.detail,
        "bundle": item.bundle,
        "version": item.version,
        "finding": item.finding,
        "threshold": item.threshold,
        "found": item.is_positive,
        "probability": item.probability,
        "slices": [
            SliceAnswer(number=number, probability=round(each.probability, 4), positive=each.positive)
            for number, each in enumerate(item.judged, start=1)
        ],
    }
