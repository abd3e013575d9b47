"""C-STORE SCU: files to a peer over one association (PS3.4 Annex B)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import pydicom
from pydicom.filereader import read_file_meta_info
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, evt
from pynetdicom.association import Association
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

from dicom_node.deliver.send import (
    CLASS_NOT_SUPPORTED,
    DUPLICATE,
    NO_HOOKS,
    OUT_OF_RESOURCES,
    Hooks,
    Otherwise,
    all_choices,
    reading,
    send_each,
)
from dicom_node.errors import (
    ClassRefused,
    ConfigurationError,
    DeliveryRefused,
    DestinationUnavailable,
)
from dicom_node.implementation import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from dicom_node.settings import DestinationTLS
from dicom_node.tls import client_context, fault_of

_UNCOMPRESSED = (ExplicitVRLittleEndian, ImplicitVRLittleEndian)

# Response statuses (PS3.4 B.2.3, PS3.7 C.4).
_STORED = {0x0000, 0xB000, 0xB006, 0xB007}

_REJECTED_TRANSIENT = 2  # A-ASSOCIATE-RJ result (PS3.8 9.3.4)


@dataclass(frozen=True, slots=True)
class Peer:
    """Another application entity.

    Attributes
    ----------
    ae_title, host, port : of the peer
    calling_ae_title : ours
    timeout_s : for connecting and for each answer
    tls : how the connection is secured; None: not at all
    """

    ae_title: str
    host: str
    port: int
    calling_ae_title: str
    timeout_s: float = 30.0
    tls: DestinationTLS | None = None

    def __str__(self) -> str:
        return f"{self.ae_title}@{self.host}:{self.port}"


def send_files(
    peer: Peer,
    paths: Sequence[Path],
    instead: Mapping[Path, Sequence[Path]] = MappingProxyType({}),
    otherwise: Otherwise | None = None,
    hooks: Hooks = NO_HOOKS,
) -> Iterator[Path]:
    """Send files in order over one association and yield what the peer has stored, one by one.

    A file counts as stored after its own success, warning or duplicate status, never before.

    Parameters
    ----------
    instead : for a file whose SOP class the peer does not take, the same in other classes, in order
    otherwise : in place of all where the peer does not take the first file

    Raises
    ------
    DestinationUnavailable
        No connection, a transient rejection, out of resources, or no answer: the peer may or may
        not have the file; send it again with the same SOP Instance UID.
    DeliveryRefused
        The peer rejected the association for good, or will not take some files: class not
        accepted, or an error status. The others were sent.
    PermanentError
        A path is no DICOM file, or not there.
    OSError
        A file cannot be read for now.
    """
    association = associate(peer, _contexts(all_choices(paths, instead, otherwise)))
    try:
        yield from send_each(
            lambda path: _send_one(association, peer, path), paths, instead, otherwise, hooks
        )
        association.release()
    finally:
        if association.is_established:  # it did not go well: a release would say that it did
            association.abort()


def echo(peer: Peer) -> None:
    """Verify that a peer answers (C-ECHO, PS3.4 Annex A).

    Raises
    ------
    DestinationUnavailable, DeliveryRefused
    """
    association = associate(peer, {UID(Verification): {ImplicitVRLittleEndian}})
    try:
        status = association.send_c_echo().get("Status")
    except (ValueError, RuntimeError):
        status = None
    if association.is_established:
        association.release()
    if status != 0x0000:
        told = "does not answer C-ECHO" if status is None else f"answers C-ECHO with status {status:04X}H"
        raise DestinationUnavailable(f"{peer} {told}")


def _contexts(paths: Sequence[Path]) -> dict[UID, set[UID]]:
    """SOP classes of the files, each with the transfer syntaxes that may carry them."""
    wanted: defaultdict[UID, set[UID]] = defaultdict(set)
    for path in paths:
        with reading(path):
            meta = read_file_meta_info(path)
            syntax = meta.TransferSyntaxUID
            wanted[meta.MediaStorageSOPClassUID] |= {*_UNCOMPRESSED} if syntax in _UNCOMPRESSED else {syntax}
    return wanted


def associate(
    peer: Peer, contexts: Mapping[UID, set[UID]], handlers: Sequence[evt.EventHandlerType] = ()
) -> Association:
    """Open an association that proposes each SOP class in each of its transfer syntaxes.

    Raises
    ------
    DestinationUnavailable
        No connection, or a transient rejection.
    DeliveryRefused
        A permanent rejection, of the association or of all contexts.
    """
    ae = AE(peer.calling_ae_title)
    ae.implementation_class_uid = IMPLEMENTATION_CLASS_UID
    ae.implementation_version_name = IMPLEMENTATION_VERSION_NAME
    ae.connection_timeout = ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = peer.timeout_s
    for sop_class, syntaxes in contexts.items():
        for syntax in sorted(syntaxes):  # one context each, so that we choose, not the peer
            ae.add_requested_context(sop_class, syntax)
    try:
        secure = client_context(peer.tls, peer.timeout_s) if peer.tls else None
    except ConfigurationError as error:  # it may be made good while the delivery waits
        raise DestinationUnavailable(f"{peer} cannot be reached: {error}") from error
    name = (peer.tls and peer.tls.server_name) or peer.host
    try:
        association = ae.associate(
            peer.host,
            peer.port,
            ae_title=peer.ae_title,
            tls_args=(secure, name) if secure else None,
            evt_handlers=list(handlers),
        )
    except OSError as error:  # such as a name that does not resolve
        raise DestinationUnavailable(f"{peer} cannot be reached: {error.strerror}") from error
    if association.is_established:
        return association
    if secure is not None:
        secure.close()
    if association.rejected_contexts and not association.accepted_contexts:
        names = ", ".join(UID(sop_class).name for sop_class in contexts)
        raise DeliveryRefused(f"{peer} takes none of {names}; allow them for {peer.calling_ae_title}")
    if association.is_rejected:
        answer = association.acceptor.primitive
        if answer is not None and answer.result != _REJECTED_TRANSIENT:
            raise DeliveryRefused(f"{peer} rejected the association: {answer.reason_str}")
        raise DestinationUnavailable(f"{peer} rejected the association for now")
    if secure is not None and secure.fault is not None:
        raise DestinationUnavailable(f"{peer} cannot be reached over TLS: {fault_of(secure.fault)}")
    raise DestinationUnavailable(f"{peer} does not answer")


def _send_one(association: Association, peer: Peer, path: Path) -> None:
    meta = read_file_meta_info(path)
    sop_class, syntax = meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID
    accepted = {c.transfer_syntax[0] for c in association.accepted_contexts if c.abstract_syntax == sop_class}
    if not accepted:
        raise ClassRefused(f"{peer} does not take {sop_class.name} ({path.name})", sop_class)
    # The bytes as they are, unless the peer reads only the other uncompressed syntax.
    load = path if syntax in accepted else pydicom.dcmread(path)
    try:
        answer = association.send_c_store(load)
    except (ValueError, RuntimeError) as error:  # the association ended, or no context fits
        raise DestinationUnavailable(f"{peer} ended the association") from error
    status = answer.get("Status")
    if status is None:
        raise DestinationUnavailable(f"{peer} gave no answer")
    if status in _STORED or status == DUPLICATE:
        return
    if status in OUT_OF_RESOURCES:
        raise DestinationUnavailable(f"{peer} is out of resources (status {status:04X}H)")
    text = f"{peer} refused {path.name}, {sop_class.name} (status {status:04X}H)"
    raise ClassRefused(text, sop_class) if status == CLASS_NOT_SUPPORTED else DeliveryRefused(text)
