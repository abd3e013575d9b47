"""What an operator is shown of the book, line by line. No patient data: series are named by their UID."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime

from pydicom.uid import UID

from dicom_node.workflow.acceptance import Refusal
from dicom_node.workflow.ledger import Delivery, Entry, Sent, State
from dicom_node.workflow.orders import name_of
from dicom_node.workflow.series_job import PRIORITIES
from dicom_node.workflow.worked import Outcome

_PRIORITIES = {number: name for name, number in PRIORITIES.items()}

CountConflicts = Callable[[str], int]


def lines_of(entries: Iterable[Entry], conflicts: CountConflicts) -> Iterator[str]:
    """Show each job with its deliveries."""
    told: set[str] = set()
    for entry in entries:
        yield _title(entry)
        outcome = f"{entry.outcome}: " if entry.outcome else ""
        attempts = f" (attempt {entry.attempts})" if entry.attempts > 1 else ""
        yield f"  {_stamp(entry.updated_at)}  {entry.state}{attempts}  {outcome}{entry.detail}"
        for delivery in entry.deliveries:
            attempts = f" after {delivery.attempts} attempts" if delivery.attempts > 1 else ""
            detail = f", {delivery.detail}" if delivery.detail else ""
            yield f"  to {delivery.destination}: {delivery.state}{attempts}{detail}"
        uid = entry.series_instance_uid
        if uid not in told and (count := conflicts(uid)):
            told.add(uid)
            yield f"  {_conflicts(count)}"


def failed_lines(entries: Iterable[Entry], conflicts: CountConflicts) -> Iterator[str]:
    """Show what needs a person: the failed deliveries and jobs, why, and what to do."""
    for entry in entries:
        if entry.state is State.FAILED:
            yield from _failure(entry, None, "analyse", "the job failed", f"retry {entry.number}")
        elif entry.outcome is Outcome.FAILED:
            yield from _failure(
                entry, None, "analyse", "the report says so", f"retry {entry.number} (a new version)"
            )
        for delivery in entry.deliveries:
            if delivery.state is Sent.FAILED:
                command = f"retry {name_of(entry, delivery)}"
                yield from _failure(entry, delivery, "deliver", f"to {delivery.destination}", command)
        if count := conflicts(entry.series_instance_uid):
            yield f"  {_conflicts(count)}"


def refusal_lines(refusals: Iterable[Refusal]) -> Iterator[str]:
    """Show what destinations do not take."""
    for each in refusals:
        yield (
            f"{each.destination} takes no {UID(each.sop_class_uid).name}: refused {_stamp(each.refused_at)}, "
            f"offered again after {_stamp(each.ask_again_at)}, or when its settings change"
        )


def _failure(
    entry: Entry, delivery: Delivery | None, station: str, where: str, command: str
) -> Iterator[str]:
    failed = delivery or entry
    yield f"[{name_of(entry, delivery)}] {station}, {where}: series {entry.series_instance_uid}"
    yield f"  what   {entry.instances} images, version {entry.version}"
    yield f"  why    {failed.detail}"
    times = f"{failed.attempts} times" if failed.attempts != 1 else "once"
    yield f"  tried  {times}, since {_stamp(failed.since or entry.updated_at)}"
    yield f"  do     {failed.remedy or 'look in the log of the node, then retry'}: dicom-node {command}"


def _title(entry: Entry) -> str:
    version = f", version {entry.version}" if entry.version > 1 else ""
    named = _PRIORITIES.get(entry.priority, "normal")
    priority = f", priority {named}" if named != "normal" else ""
    return f"[{entry.number}] {entry.series_instance_uid}  {entry.instances} images{version}{priority}"


def _conflicts(count: int) -> str:
    files = "1 image" if count == 1 else f"{count} images"
    return (
        f"{files} came again with other content under a UID that was taken: kept aside in the spool as "
        "*.conflict-*, not analysed; correct the sender, and send them under new SOP Instance UIDs"
    )


def _stamp(when: datetime) -> str:
    return f"{when:%Y-%m-%d %H:%M:%S}Z"
