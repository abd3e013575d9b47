"""A book that cannot be written, at the worst moments: after a send, and when a job has failed.

A node in this process whose book refuses, as on a full disk. Not covered: a disk that is full for the
workflows too; DBOS then waits by itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from dicom_node.errors import StorageExhausted
from dicom_node.node import Node
from dicom_node.settings import load_settings
from dicom_node.trial.archive import Archive
from dicom_node.workflow import engine, stations, upkeep
from dicom_node.workflow.ledger import State
from tests.support.running import entries_of, free_port, send, wait_for, wait_until_ended, write_configuration
from tests.support.spot import Series, image_spot


class Refusals:
    """Lets the first calls of a method fail as a full disk does."""

    def __init__(self, book: object, method: str, count: int) -> None:
        self._original, self.left = getattr(book, method), count
        setattr(book, method, self)

    def __call__(self, *arguments: object, **more: object) -> object:
        if self.left > 0:
            self.left -= 1
            raise StorageExhausted("the book cannot be written: database or disk is full")
        return self._original(*arguments, **more)


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Archive]:
    with Archive(tmp_path / "archive", "ARCHIVE") as archive:
        yield archive


@pytest.fixture
def node(
    tmp_path: Path, spot_models: Path, archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Node]:
    monkeypatch.setattr(engine, "INSISTENT_ATTEMPTS", 3)
    monkeypatch.setattr(upkeep, "REPAIR_EVERY_S", 2)
    configuration = write_configuration(
        tmp_path / "node.toml",
        port=free_port(),
        models=spot_models,
        destinations={"archive": ("ARCHIVE", archive.port)},
    )
    with Node(load_settings(configuration)) as node:
        yield node


@pytest.mark.parametrize("refusals", [2, 3])
def test_what_was_sent_is_entered_as_sent_when_the_book_can_be_written_again(
    refusals: int, node: Node, archive: Archive, tmp_path: Path, series_of: Series
) -> None:
    refused = Refusals(node.ledger, "deliver", refusals)  # the third lets the workflow end in error
    send(series_of(image_spot()), node.settings.receive.port)
    (entry,) = wait_until_ended(tmp_path / "var")
    assert entry.state is State.DONE
    assert refused.left == 0
    assert len(list(archive.folder.glob("*.dcm"))) == 3


def test_a_job_that_fails_while_the_book_refuses_is_a_dead_letter_in_the_end(
    node: Node, tmp_path: Path, series_of: Series, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(*_: object, **__: object) -> None:
        raise RuntimeError("Doe^John")

    monkeypatch.setattr(stations, "select", crash)
    refused = Refusals(node.ledger, "update", 4)
    send(series_of(image_spot()), node.settings.receive.port)
    wait_for(lambda: refused.left == 0)
    (entry,) = wait_until_ended(tmp_path / "var")
    assert entry.state is State.FAILED
    assert entry.detail == "no report could be made: error RuntimeError, see the log"
    assert "Doe" not in str(entries_of(tmp_path / "var"))
