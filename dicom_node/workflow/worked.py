"""What came of a series: the value that the stations hand to whoever asked for the work."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Self

from dicom_node.analysis.findings import Findings
from dicom_node.results.result_set import ResultSet


class Outcome(StrEnum):
    """What the analysis came to."""

    FINDINGS = "findings"
    NO_FINDINGS = "no findings"
    FAILED = "failed"


@dataclass(frozen=True)
class Worked:
    """What came of a series.

    Attributes
    ----------
    findings : None when the analysis failed
    detail : in one sentence
    results : one set; several when a failed series mixed patients or studies
    timings_s : seconds spent in each station
    remedy : what a person can do when the analysis failed
    error : the class of what went wrong
    """

    findings: Findings | None
    detail: str
    results: tuple[ResultSet, ...]
    timings_s: dict[str, float] = field(default_factory=dict)
    remedy: str = ""
    error: str = ""

    @classmethod
    def of(cls, findings: Findings, results: ResultSet) -> Self:
        """Sum up an analysis that did not fail."""
        count = len(findings.lesions)
        total = sum(lesion.volume_ml for lesion in findings.lesions)
        detail = f"{count} lesion{'s' if count > 1 else ''}, {total:.1f} ml" if count else "no lesion found"
        if not count and findings.slice_positive.any():
            detail += f", but the detector calls {int(findings.slice_positive.sum())} slices positive"
        return cls(findings, detail, (results,))

    @property
    def outcome(self) -> Outcome:
        """Of the analysis."""
        if self.findings is None:
            return Outcome.FAILED
        return Outcome.FINDINGS if self.findings.lesions else Outcome.NO_FINDINGS
