"""Received instances on disk, by series.

::

    folder/
      incoming/<n>.part                                   being received, or empty
      incoming/<receiver>/<n>.part                        the same, where several share the folder: hosts,
                                                          and the processes that receive for one
      series/<SeriesInstanceUID>/<SOPInstanceUID>.dcm     received, durable
      series/<SeriesInstanceUID>/<SOPInstanceUID>.conflict-<digest>
      deleted/<SeriesInstanceUID>                         which instances were there and are no more

An instance is durable before anybody is told: its part file has a name that was flushed
with its folder before the first byte came, the data is proved whole and flushed, and then
the file moves to its series. The move itself is not flushed. If a crash undoes it, the part
file is there, whole, and the sweep at start moves it again; a part file that is not whole
was never acknowledged, and the sweep removes it.

What is deleted is written down first, and durably: a series that gets an image later is then
known to lack others.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import itertools
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import structlog

from dicom_node.durable import flush_folder, hand_over, make_folder
from dicom_node.errors import ConfigurationError, InstanceRefused, StorageExhausted
from dicom_node.receive.header import Header, is_uid
from dicom_node.receive.instance import Incoming
from dicom_node.receive.part10 import AETitles, data_set_offset, read_file_meta, read_titles
from dicom_node.receive.part_file import STORAGE_ERRORS_TOLD, PartFile
from dicom_node.receive.part_names import PartNames
from dicom_node.receive.room import Room, RoomTold, look_for_room
from dicom_node.receive.status import Status

_MB = 1 << 20
_CHUNK_BYTES = 1 << 20
# An empty series folder may be removed between its making and the first file
_TRIES = 3

_log = structlog.get_logger()


class Spool:
    """The folder of received instances.

    Parameters
    ----------
    folder : Path
        Made if it is not there; one process at a time receives into it, unless each has a name.
    minimum_free_mb : int
        Below it nothing more is taken in.
    maximum_object_mb : int
        A larger data set is refused.
    receiver : str
        Name of this process among several that receive into the folder; empty when it is alone.
    note_room : callable, optional
        Gets what each look at the free space has found; by default it is said in the log.
    """

    def __init__(
        self,
        folder: Path,
        minimum_free_mb: int,
        maximum_object_mb: int = 2048,
        receiver: str = "",
        note_room: Callable[[Room], None] | None = None,
    ) -> None:
        self._folder_of_all = folder
        self._limits_mb = minimum_free_mb, maximum_object_mb
        self._receiver = receiver
        self._incoming_of_all = folder / "incoming"
        self._incoming = self._incoming_of_all / receiver
        self._is_shared = bool(receiver)
        self._series = folder / "series"
        self._deleted = folder / "deleted"
        self.note_room = note_room or RoomTold(minimum_free_mb)
        self._minimum_free_mb = minimum_free_mb
        self._maximum_bytes = maximum_object_mb * _MB
        # Held only to look whether a name is taken and to take it
        self._naming = threading.Lock()
        for path in (self._incoming_of_all, self._series, self._deleted):
            make_folder(path)
        flush_folder(self._incoming_of_all)
        self._names = PartNames(self._incoming)

    def share(self) -> None:
        """Have processes receive into the folder beside this one.

        Raises
        ------
        ConfigurationError
            The file system cannot keep them from taking one name.
        """
        self._is_shared = True
        probe, link = (self._incoming_of_all / f"probe-{os.getpid()}{end}" for end in ("", "-link"))
        try:
            probe.touch()
            link.hardlink_to(probe)
        except OSError as error:
            raise ConfigurationError(
                f"{self._folder_of_all}: this file system cannot link files ({error.strerror}), as several "
                "processes that receive need; set receive.processes = 0"
            ) from None
        finally:
            for path in (probe, link):
                path.unlink(missing_ok=True)

    def of_process(self, number: int) -> tuple[Path, int, int, str]:
        """Return the arguments of the spool of a process that receives beside this one."""
        return self._folder_of_all, *self._limits_mb, str(Path(self._receiver, str(number)))

    def has_room(self) -> bool:
        """Whether the file system has the free space that is to be left for others; says so if not."""
        room = look_for_room(self._incoming_of_all, self._minimum_free_mb)
        self.note_room(room)
        return room.is_enough

    def sweep(self) -> int:
        """Take in whole part files of an earlier process and remove the others.

        To be called before anything is received. Of several receivers each sweeps what has its own name, and
        what is nobody's. Returns how many instances were taken in.

        Raises
        ------
        StorageExhausted
            There is no room even to move a file; none was removed for that.
        """
        others = () if not self._receiver else self._incoming_of_all.glob("*.part")
        return self._sweep(self._incoming, others)

    def sweep_after(self, receiver: str) -> int:
        """Do the same for another receiver, which is gone and does not come back meanwhile."""
        return self._sweep(self._incoming_of_all / receiver)

    def sweep_after_process(self, number: int) -> int:
        """Do the same for a process that received beside this one; its folder goes."""
        folder = self._incoming / str(number)
        taken_in = self._sweep(folder)
        _remove_empty(folder)
        return taken_in

    def _sweep(self, folder: Path, others: Iterable[Path] = ()) -> int:
        taken_in = removed = 0
        for path in [*folder.glob("**/*.part"), *others]:
            if path.stat().st_size == 0:
                path.unlink()
                continue
            try:
                self._reopen(path).commit()
                taken_in += 1
            except (ValueError, InstanceRefused):
                path.unlink(missing_ok=True)
                removed += 1
        if taken_in or removed:
            _log.info("spool_swept", taken_in=taken_in, removed=removed)
        for path in folder.glob("*/"):  # of processes that received
            _remove_empty(path)
        return taken_in

    def series(self) -> list[str]:
        """Return the Series Instance UIDs, sorted."""
        return sorted(path.name for path in self._series.iterdir() if is_uid(path.name))

    def folders(self) -> list[Path]:
        """Return the folder of each series, sorted."""
        return [self._series / uid for uid in self.series()]

    def instances(self, series_instance_uid: str) -> list[Path]:
        """Return the files of a series, sorted by name; none if the series is not there."""
        return sorted(self._folder(series_instance_uid).glob("*.dcm"))

    def conflicts(self, series_instance_uid: str) -> list[Path]:
        """Return the files that came under a SOP Instance UID that had other content, sorted."""
        return sorted(self._folder(series_instance_uid).glob("*.conflict-*"))

    def deleted(self, series_instance_uid: str) -> frozenset[str]:
        """Return the SOP Instance UIDs of a series that were deleted at any time."""
        try:
            return frozenset(
                (self._deleted / self._folder(series_instance_uid).name).read_text("ascii").split()
            )
        except FileNotFoundError:
            return frozenset()

    def delete(self, series_instance_uid: str, paths: Sequence[Path]) -> None:
        """Write down the instances among these files of a series, then delete them.

        To be called within `exclusively`. A crash at any moment leaves files that are written down
        as deleted, or none.
        """
        uids = self.deleted(series_instance_uid) | {path.stem for path in paths if path.suffix == ".dcm"}
        record = self._deleted / self._folder(series_instance_uid).name
        part = record.with_name(f"{record.name}.part")
        with part.open("w", encoding="ascii") as file:
            hand_over(part)
            file.write("\n".join(sorted(uids)))
            file.flush()
            os.fsync(file.fileno())
        part.rename(record)
        flush_folder(self._deleted)
        for path in paths:
            path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # another image came meanwhile
            self._folder(series_instance_uid).rmdir()

    @contextmanager
    def exclusively(self) -> Iterator[None]:
        """Keep deleting, and taking up a series, apart; of other processes too."""
        lock = self._deleted / ".lock"
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            hand_over(lock)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def titles(self, series_instance_uid: str) -> AETitles:
        """Return by which AE titles a series came, empty ones where none of its files can tell any more.

        Raises
        ------
        FileNotFoundError
            The spool holds nothing of that series.
        """
        files = self.instances(series_instance_uid)
        if not files:
            raise FileNotFoundError(errno.ENOENT, "no instance of this series", series_instance_uid)
        for path in files:
            with contextlib.suppress(ValueError):  # a file that the disk has damaged: who reads it says so
                return read_titles(path)
        return AETitles("", "")

    def begin(self, incoming: Incoming) -> PartFile:
        """Open a part file for an instance that is about to come.

        Raises
        ------
        InstanceRefused
            A UID of the request is not a UID.
        StorageExhausted
            There is no room.
        """
        if not is_uid(incoming.sop_instance_uid):
            raise InstanceRefused("the SOP Instance UID is not a UID", Status.INVALID_OBJECT_INSTANCE)
        if not self.has_room():
            raise StorageExhausted("the spool's file system is below receive.minimum_free_mb")
        with STORAGE_ERRORS_TOLD:
            path = self._names.take()
        return PartFile(incoming, path, self._maximum_bytes, self._take_in)

    def _folder(self, series_instance_uid: str) -> Path:
        if not is_uid(series_instance_uid):
            raise InstanceRefused("the Series Instance UID is not a UID", Status.UIDS_DISAGREE)
        return self._series / series_instance_uid

    def _reopen(self, path: Path) -> PartFile:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            meta = read_file_meta(descriptor)
        finally:
            os.close(descriptor)
        incoming = Incoming(
            meta.sop_class_uid,
            meta.sop_instance_uid,
            meta.transfer_syntax_uid,
            meta.titles.called,
            meta.titles.calling,
            association_id=0,
        )
        return PartFile(incoming, path, self._maximum_bytes, self._take_in)

    def _take_in(self, part: Path, descriptor: int, header: Header) -> tuple[Path, bool]:
        """Give a flushed part file its place, or remove it as a duplicate.

        Returns the place of that data set and whether it is new.
        """
        try:
            return self._place(part, descriptor, header)
        except FileNotFoundError:  # the same image was just deleted, as its series was done
            return self._place(part, descriptor, header)

    def _place(self, part: Path, descriptor: int, header: Header) -> tuple[Path, bool]:
        folder = self._folder(header.series_instance_uid)
        place = folder / f"{header.sop_instance_uid}.dcm"
        with self._naming:
            is_new = self._take_name(part, place)
        if not is_new and not _same_data_set(descriptor, place):
            # Named by its content, so that the same conflict sent ten times is kept once
            place = folder / f"{header.sop_instance_uid}.conflict-{_digest(descriptor)}"
            with self._naming:
                is_new = self._take_name(part, place)
        if not is_new:
            part.unlink()
        return place, is_new

    def _take_name(self, part: Path, place: Path) -> bool:
        """Move a file to its place; False when another has it."""
        if not self._is_shared:
            if place.exists():
                return False
            _try_to_name(lambda: part.rename(place), place)
            return True
        try:  # another may take the same name at the same moment: a link never replaces
            _try_to_name(lambda: os.link(part, place), place)
        except FileExistsError:
            return False
        part.unlink()
        return True


def _remove_empty(folder: Path) -> None:
    with contextlib.suppress(OSError):
        folder.rmdir()


def _try_to_name(name: Callable[[], object], place: Path) -> None:
    for _ in range(_TRIES):
        with contextlib.suppress(FileNotFoundError):
            name()
            return
        place.parent.mkdir(exist_ok=True)  # the first of its series, or the first after it was deleted
    name()


def _data_set(descriptor: int) -> Iterator[bytes]:
    """Read the data set of a file in chunks, without the file meta information."""
    offset = data_set_offset(descriptor)
    while chunk := os.pread(descriptor, _CHUNK_BYTES, offset):
        yield chunk
        offset += len(chunk)


def _same_data_set(descriptor: int, path: Path) -> bool:
    """Compare without the file meta information: that differs with the sender."""
    with path.open("rb") as file:
        pairs = itertools.zip_longest(_data_set(descriptor), _data_set(file.fileno()))
        return all(ours == theirs for ours, theirs in pairs)


def _digest(descriptor: int) -> str:
    digest = hashlib.sha256()
    for chunk in _data_set(descriptor):
        digest.update(chunk)
    return digest.hexdigest()[:16]
