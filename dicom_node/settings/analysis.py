"""Which series are analysed, by which bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import (
    Field,
    PositiveInt,
    field_validator,
    model_validator,
)

from dicom_node.results.result_set import Kind
from dicom_node.series.volume import Contrast
from dicom_node.settings.fields import (
    AETitle,
    Name,
    Pattern,
    Priority,
    Section,
    WebService,
)


def installed_models() -> Path:
    """Find the bundles that came with the program: in the package, or beside it in a checkout."""
    package = Path(__file__).resolve().parents[1]
    packaged = package / "models"
    return packaged if packaged.is_dir() else package.parent / "models"


class Remote(WebService):
    """A server that runs the bundles' networks: one of the Open Inference Protocol, such as NVIDIA Triton.

    Attributes
    ----------
    url : before /v2, such as https://triton.hospital.example:8000
    timeout_s : for each whole request
    bundles : that it runs; all unless set
    model : how it calls a network of a bundle; ``{network}`` is ``detector`` or ``segmenter``
    batch : slices in a request, at most the server's ``max_batch_size``
    """

    bundles: tuple[str, ...] = ()
    model: Annotated[str, Field(pattern=r"^[\w.{}-]+$")] = "{bundle}-{network}"
    batch: PositiveInt = 4

    @field_validator("model")
    @classmethod
    def _can_be_filled_in(cls, value: str) -> str:
        bare = value.replace("{bundle}", "").replace("{network}", "")
        if "{network}" not in value or "{" in bare or "}" in bare:
            raise ValueError("a name with {network} in it, and {bundle} where the server runs several")
        return value

    def model_of(self, bundle: str, network: str) -> str:
        """How the server calls a network."""
        return self.model.replace("{bundle}", bundle).replace("{network}", network)


class Analysis(Section):
    """The models.

    Attributes
    ----------
    models : folder of the bundles; those that came with the program unless set
    device : ``auto`` takes CUDA where it works
    threads : of the CPU, 0 for all cores
    remote : runs networks instead of this machine
    """

    models: Path = Field(default_factory=installed_models)
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: Annotated[int, Field(ge=0)] = 0
    remote: Remote | None = None

    def remote_of(self, bundle: str) -> Remote | None:
        """Where a bundle's networks run; None: here."""
        runs = self.remote and (not self.remote.bundles or bundle in self.remote.bundles)
        return self.remote if runs else None


class Match(Section):
    """What a series must be to fit a pipeline.

    Attributes
    ----------
    contrasts : one of them; the bundle must read them
    minimum_slices : or more
    called_ae_titles : it was sent to one of them; to any where there is none
    series_description : a regular expression that is found in it, upper and lower case alike
    """

    contrasts: Annotated[tuple[Contrast, ...], Field(min_length=1)]
    minimum_slices: PositiveInt = 10
    called_ae_titles: tuple[AETitle, ...] = ()
    series_description: Pattern | None = None


class Pipeline(Section):
    """Which series go through which bundle, what is made of them, and where it goes.

    Attributes
    ----------
    name : in the log and in what rules say
    bundle : folder of ``analysis.models``
    destinations : names; without one the results stay in the node's folder
    segment : slices that the segmenter sees: those the detector calls positive and their
        neighbours, where a lesion may end but not lie alone; or all
    minimum_lesion_ml : smaller regions are not reported
    maximum_slices : a larger series gets a failed report
    priority : of its series; where their called AE title has one too, the more urgent of the two
    outputs : kinds of objects; a Parametric Map (``pm``) and key images (``kos``) only when asked for
    """

    name: Name
    match: Match
    bundle: str
    segment: Literal["positive", "all"] = "positive"
    minimum_lesion_ml: Annotated[float, Field(ge=0)] = 0.1
    maximum_slices: PositiveInt = 1000
    priority: Priority | None = None
    outputs: tuple[Kind, ...] = (Kind.SEG, Kind.SC, Kind.SR)
    destinations: tuple[Name, ...] = ()

    @model_validator(mode="after")
    def _always_reports(self) -> Self:
        if Kind.SR not in self.outputs:
            raise ValueError("outputs must hold 'sr': the report is the result, also when nothing is found")
        return self
