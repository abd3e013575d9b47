"""A complete series, or one that was ordered, becomes a job, if all of it is there.

An image that comes for a series whose images were deleted is not analysed, as it is not the
series: the book says so, and that the whole series is to be sent again. It then is a new
version, which names the one before.
"""

from __future__ import annotations

import structlog

from dicom_node.receive.completion import CompleteSeries, look
from dicom_node.receive.spool import Spool
from dicom_node.workflow.ledger import Entry, Ledger
from dicom_node.workflow.series_job import SeriesJob, job_id_of, run_of

_WHOLE = "send the whole series again"

log = structlog.get_logger()


class Intake:
    """Takes up complete series, ordered or not; not what is left, or comes late, of one that was deleted."""

    def __init__(self, spool: Spool, ledger: Ledger, jobs: SeriesJob) -> None:
        self._spool, self._ledger, self._jobs = spool, ledger, jobs

    def take(self, complete: CompleteSeries) -> None:
        """Take up a series as it lies in the spool now.

        Raises
        ------
        StorageExhausted
            The book cannot be written.
        """
        with self._spool.exclusively():
            series = look(self._spool, complete.series_instance_uid)
            if series is None:
                return
            present = {path.stem for path in series.paths}
            deleted = self._spool.deleted(series.series_instance_uid)
            if deleted <= present:
                self._jobs.enqueue(series)
            elif present - deleted:
                self._refuse(series, new=len(present - deleted), lacking=len(deleted - present))
            else:
                log.info(
                    "series_came_again_in_part",
                    series=series.series_instance_uid,
                    lacking=len(deleted - present),
                )

    def take_again(self, entry: Entry) -> bool:
        """Begin a job that was ordered, if its images, and all of the series, are there.

        Otherwise the book says why not, and False is returned.

        Raises
        ------
        Cancelled
            It was cancelled meanwhile.
        """
        with self._spool.exclusively():
            series = look(self._spool, entry.series_instance_uid)
            if series is None:
                why, remedy = "its images are no longer in the spool", "send the series again, then retry"
            elif job_id_of(series, run_of(entry.job_id)) != entry.job_id:
                why, remedy = "other images of the series came meanwhile", "retry its latest version"
            elif deleted := self._spool.deleted(entry.series_instance_uid) - {p.stem for p in series.paths}:
                why, remedy = _lacking(len(deleted)), _WHOLE
            else:
                self._jobs.begin(entry, series)
                return True
        self._ledger.fail(entry.job_id, why, remedy, entry.ticket)
        return False

    def _refuse(self, series: CompleteSeries, new: int, lacking: int) -> None:
        """Say why a late image is not analysed; it is no version of the series."""
        job_id = job_id_of(series)
        if self._ledger.has_ended(job_id):
            return
        self._ledger.open_job(job_id, series.series_instance_uid, series.instances)
        self._ledger.fail(job_id, f"not analysed: {new} late images; {_lacking(lacking)}", _WHOLE)
        log.warning("late_images_not_analysed", series=series.series_instance_uid, new=new, lacking=lacking)


def _lacking(count: int) -> str:
    return f"{count} images of this series were deleted after its result was sent"
