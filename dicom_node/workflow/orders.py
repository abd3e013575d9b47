"""What an operator orders of a node: again, or not at all.

Orders are written into the book; a running node takes them up within a second or two, one
that is down at its start.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from dicom_node.errors import ConfigurationError
from dicom_node.receive.completion import CompleteSeries
from dicom_node.workflow.ledger import OPEN, Delivery, Entry, Ledger, Sent, State
from dicom_node.workflow.series_job import job_id_of
from dicom_node.workflow.worked import Outcome

SHALL_BE_SENT = "to be sent again"
SHALL_BE_ANALYSED = "to be analysed again"
_REPEATABLE = (Sent.FAILED, Sent.CANCELLED)

Look = Callable[[str], CompleteSeries | None]


def name_of(entry: Entry, delivery: Delivery | None = None) -> str:
    """What an operator calls a job (``7``) or one of its deliveries (``7-archive``)."""
    return f"{entry.number}-{delivery.destination}" if delivery else str(entry.number)


def find(ledger: Ledger, name: str) -> tuple[Entry, Delivery | None]:
    """Look up what an operator names.

    Parameters
    ----------
    name : as `name_of` gives, or a Series Instance UID for the latest version of the series

    Raises
    ------
    ConfigurationError
    """
    parts = re.fullmatch(r"(\d+)(?:-([a-z0-9_-]+))?", name)
    if parts is None:
        versions = ledger.entries(series_instance_uid=name)
        entry = max(versions, key=lambda each: each.version, default=None)
    else:
        entry = ledger.entry_by_number(int(parts[1]))
    if entry is None:
        raise ConfigurationError(f"{name}: no such job; dicom-node status shows their numbers")
    if parts is None or parts[2] is None:
        return entry, None
    for delivery in entry.deliveries:
        if delivery.destination == parts[2]:
            return entry, delivery
    raise ConfigurationError(f"{name}: job {entry.number} has no delivery to {parts[2]}")


def cancel(ledger: Ledger, name: str) -> str:
    """Stop a job or a delivery that waits or runs; return what was done, in words.

    Raises
    ------
    ConfigurationError
        Nothing of it was open.
    """
    entry, delivery = find(ledger, name)
    if not ledger.cancel(entry.job_id, delivery.destination if delivery else None):
        state = delivery.state if delivery else entry.state
        raise ConfigurationError(f"{name}: nothing to cancel, it is {state}")
    return f"{name_of(entry, delivery)}: cancelled; dicom-node retry {name_of(entry, delivery)} undoes it"


def retry(
    ledger: Ledger, name: str, look: Look, *, again: bool = False, bundle: str | None = None
) -> list[str]:
    """Order what failed or was cancelled once more; return what was ordered, in words.

    A delivery sends the same files. A series without a result is worked on from the start. A series
    whose result says that the analysis failed is analysed as a new version.

    Parameters
    ----------
    again : analyse as a new version whatever became of the series, with the models of now
    bundle : and with this one

    Raises
    ------
    ConfigurationError
        There is nothing to repeat, or it is under way.
    """
    entry, delivery = find(ledger, name)
    if again or bundle:
        return [_analyse_again(ledger, entry, look, bundle)]
    chosen = entry.deliveries if delivery is None else (delivery,)
    repeatable = [each for each in chosen if each.state in _REPEATABLE]
    if repeatable:
        return [_send_again(ledger, entry, each) for each in repeatable]
    if delivery is not None:
        raise ConfigurationError(f"{name}: nothing to repeat, it is {delivery.state}")
    if entry.state in (State.FAILED, State.SKIPPED, State.CANCELLED):
        ledger.order_job(entry.job_id, SHALL_BE_ANALYSED)
        return [f"{entry.number}: {SHALL_BE_ANALYSED}"]
    if entry.state is State.DONE and entry.outcome is Outcome.FAILED:
        return [_analyse_again(ledger, entry, look)]
    hint = "; --again analyses it as a new version" if entry.state is State.DONE else ""
    raise ConfigurationError(f"{name}: nothing to repeat, it is {entry.state}{hint}")


def resend(ledger: Ledger, name: str) -> list[str]:
    """Order that a result goes to its destinations, or to one, once more, though they may have it.

    Raises
    ------
    ConfigurationError
        There is nothing to send, or it is being sent.
    """
    entry, delivery = find(ledger, name)
    chosen = [each for each in entry.deliveries if delivery in (None, each) and each.state not in OPEN]
    if not chosen:
        raise ConfigurationError(f"{name}: nothing to send again, it is {(delivery or entry).state}")
    return [_send_again(ledger, entry, each) for each in chosen]


def retry_all(ledger: Ledger) -> list[str]:
    """Order every dead letter once more: deliveries that failed, and jobs without a result.

    Not the series whose result says why they cannot be analysed: that would say it again.
    """
    return list(_retry_all(ledger))


def _retry_all(ledger: Ledger) -> Iterator[str]:
    for entry in ledger.failed():
        for delivery in entry.deliveries:
            if delivery.state is Sent.FAILED:
                yield _send_again(ledger, entry, delivery)
        if entry.state is State.FAILED:
            ledger.order_job(entry.job_id, SHALL_BE_ANALYSED)
            yield f"{entry.number}: {SHALL_BE_ANALYSED}"


def _send_again(ledger: Ledger, entry: Entry, delivery: Delivery) -> str:
    ledger.order_delivery(entry.job_id, delivery.destination, SHALL_BE_SENT)
    return f"{name_of(entry, delivery)}: {SHALL_BE_SENT}"


def _analyse_again(ledger: Ledger, entry: Entry, look: Look, bundle: str | None = None) -> str:
    """Order a new version of a series from the images that are in the spool."""
    uid = entry.series_instance_uid
    series = look(uid)
    if series is None:
        raise ConfigurationError(
            f"{entry.number}: its images are no longer in the spool; send the series again"
        )
    runs = {each.job_id: each for each in ledger.entries(series_instance_uid=uid, limit=1000)}
    if job_id_of(series) not in runs:
        raise ConfigurationError(
            f"{entry.number}: more images of this series came; they are analysed by themselves"
        )
    for each in runs.values():
        if each.state in (State.WAITING, State.ANALYSING):
            raise ConfigurationError(f"{entry.number}: version {each.version} of this series is {each.state}")
    run = next(n for n in range(2, 1000) if job_id_of(series, n) not in runs)
    job_id = job_id_of(series, run)
    detail = f"{SHALL_BE_ANALYSED}, after version {max(each.version for each in runs.values())}"
    if bundle:
        detail += f", with bundle {bundle}"
    ledger.open_job(
        job_id, uid, series.instances, priority=entry.priority, ordered=True, detail=detail, bundle=bundle
    )
    made = ledger.entry(job_id)
    number = made.number if made else "?"
    return f"{number}: series {uid} {detail}"
