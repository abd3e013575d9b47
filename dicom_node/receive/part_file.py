"""One instance on its way to the disk: streamed, proved whole, flushed."""

from __future__ import annotations

import errno
import mmap
import os
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

import structlog

from dicom_node.errors import InstanceRefused, StorageExhausted
from dicom_node.receive.header import Header, header_at_start, read_header
from dicom_node.receive.instance import Incoming, StoredInstance
from dicom_node.receive.part10 import AETitles, data_set_offset, file_meta
from dicom_node.receive.status import Status

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
# Of a large object, what is handed to the disk while the rest comes, so that the flush has less to do
_AHEAD_BYTES = 4 << 20

_log = structlog.get_logger()


class PartFile:
    """One instance while it is being received: write, then `commit` or `discard`.

    Parameters
    ----------
    incoming : Incoming
    path : Path
        An empty file whose name is durable, or the part file of an earlier process.
    maximum_bytes : int
        A larger data set is refused.
    take_in : callable
        Gives the flushed file (its path, its descriptor, its header) its place; returns the
        place and whether it is new.
    """

    def __init__(
        self,
        incoming: Incoming,
        path: Path,
        maximum_bytes: int,
        take_in: Callable[[Path, int, Header], tuple[Path, bool]],
    ) -> None:
        self._take_in = take_in
        self._incoming = incoming
        self._path = path
        self._maximum_bytes = maximum_bytes
        self._bytes = 0
        self._ahead_bytes = 0
        self._has_begun = False
        self._glance: tuple[Header, int] | None = None
        with STORAGE_ERRORS_TOLD:
            self._descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        self._is_open = True

    def write(self, fragment: bytes | memoryview) -> None:
        """Append to the data set.

        Raises
        ------
        InstanceRefused
            The data set is larger than the limit.
        StorageExhausted
            There is no room.
        """
        self._bytes += len(fragment)
        if self._bytes > self._maximum_bytes:
            raise InstanceRefused(
                "the data set is larger than receive.maximum_object_mb", Status.OUT_OF_RESOURCES
            )
        if self._has_begun:
            self._append(fragment)
            self._write_ahead()
        else:
            self._has_begun = True
            self._append(self._meta(), fragment)
            self._glance = header_at_start(fragment, self._incoming.transfer_syntax_uid)

    def commit(self) -> StoredInstance:
        """Prove the data set whole, make it durable, and give it its name.

        Raises
        ------
        InstanceRefused
            The data set is damaged or is not what the request announced.
        StorageExhausted
            There is no room; the part file is still there.
        """
        try:
            header = self._read_header()
        except InstanceRefused:
            self.discard()
            raise
        with STORAGE_ERRORS_TOLD:
            os.fdatasync(self._descriptor)
            place, is_new = self._take_in(self._path, self._descriptor, header)
        self._close()
        is_conflict = not str(place).endswith(".dcm")
        if is_conflict:
            _log.warning(
                "instance_conflict",
                sop_instance_uid=header.sop_instance_uid,
                series_instance_uid=header.series_instance_uid,
                calling_ae_title=self._incoming.calling_ae_title,
            )
        return StoredInstance(
            sop_instance_uid=header.sop_instance_uid,
            series_instance_uid=header.series_instance_uid,
            study_instance_uid=header.study_instance_uid,
            position_mm=header.position_mm,
            orientation=header.orientation,
            called_ae_title=self._incoming.called_ae_title,
            calling_ae_title=self._incoming.calling_ae_title,
            association_id=self._incoming.association_id,
            path=place,
            is_new=is_new,
            is_conflict=is_conflict,
        )

    def discard(self) -> None:
        """Remove the part file unless it got its place; may be called twice."""
        if self._is_open:
            self._close()
            self._path.unlink(missing_ok=True)

    def _close(self) -> None:
        self._is_open = False
        os.close(self._descriptor)

    def _meta(self) -> bytes:
        incoming = self._incoming
        titles = AETitles(incoming.called_ae_title, incoming.calling_ae_title)
        return file_meta(
            incoming.sop_class_uid, incoming.sop_instance_uid, incoming.transfer_syntax_uid, titles
        )

    def _write_ahead(self) -> None:
        length = self._bytes - self._ahead_bytes
        if length >= _AHEAD_BYTES:
            # Linux begins to write what is to leave memory, and only drops what is written already
            os.posix_fadvise(self._descriptor, self._ahead_bytes, length, os.POSIX_FADV_DONTNEED)
            self._ahead_bytes = self._bytes

    def _append(self, *pieces: bytes | memoryview) -> None:
        with STORAGE_ERRORS_TOLD:
            written = os.writev(self._descriptor, pieces)
            if written < sum(map(len, pieces)):
                rest = memoryview(b"".join(pieces))[written:]
                while rest:
                    rest = rest[os.write(self._descriptor, rest) :]

    def _read_header(self) -> Header:
        header, length = self._glance or (None, 0)
        if header is None or length != self._bytes:
            header = self._read_header_of_file()
        if header.sop_class_uid != self._incoming.sop_class_uid:
            raise InstanceRefused(
                "the data set is of another SOP class than the request",
                Status.DATA_SET_DOES_NOT_MATCH_SOP_CLASS,
            )
        if header.sop_instance_uid != self._incoming.sop_instance_uid:
            raise InstanceRefused("the data set is another instance than the request's", Status.UIDS_DISAGREE)
        return header

    def _read_header_of_file(self) -> Header:
        size = os.fstat(self._descriptor).st_size
        if not size or size <= (offset := data_set_offset(self._descriptor)):
            raise InstanceRefused("the data set is empty", Status.CANNOT_UNDERSTAND)
        with (
            mmap.mmap(self._descriptor, 0, access=mmap.ACCESS_READ) as file,
            memoryview(file) as whole,
            whole[offset:] as data,
        ):
            return read_header(data, self._incoming.transfer_syntax_uid, self._maximum_bytes)


class _StorageErrorsTold:
    """Turns a full disk or quota into the node's own error; a class, as it is entered for each fragment."""

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, OSError) and error.errno in _NO_ROOM:
            raise StorageExhausted("the spool's file system is full") from None


STORAGE_ERRORS_TOLD = _StorageErrorsTold()
