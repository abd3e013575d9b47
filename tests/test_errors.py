"""Transient or permanent, why and what to do: for every error of the node, and those of libraries."""

from __future__ import annotations

import errno

import pytest

from dicom_node import errors
from dicom_node.errors import NodeError, PermanentError, TransientError, is_transient, reason, remedy

ALL = [
    error
    for error in vars(errors).values()
    if isinstance(error, type) and issubclass(error, NodeError) and error is not errors.InstanceRefused
]


@pytest.mark.parametrize("kind", ALL)
def test_every_error_of_the_node_says_why_and_what_to_do(kind: type[NodeError]) -> None:
    arguments = ("1.2.3",) if kind is errors.ClassRefused else ()
    error = kind("the reason", *arguments)
    assert is_transient(error) == issubclass(kind, TransientError)
    assert not (issubclass(kind, TransientError) and issubclass(kind, PermanentError))
    assert reason(error) == "the reason"
    assert len(remedy(error)) > 20
    assert kind.__name__ in (errors.__doc__ or "")


def test_a_disk_or_a_network_may_come_back_and_their_words_may_be_shown() -> None:
    error = OSError(errno.ENOSPC, "No space left on device", "/spool/Doe^John")
    assert is_transient(error)
    assert reason(error) == "No space left on device"
    assert "disk" in remedy(error)


def test_the_text_of_a_library_is_not_shown_since_it_may_quote_a_patient() -> None:
    error = ValueError("Invalid value 'Doe^John'")
    assert not is_transient(error)
    assert reason(error) == "error ValueError, see the log"
