"""What the receiver takes: MR images in every encoding that the node can decode, reports of commitment."""

from __future__ import annotations

from functools import cache

from pydicom.uid import (
    JPEG2000,
    UID,
    DeflatedExplicitVRLittleEndian,
    EnhancedMRImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    LegacyConvertedEnhancedMRImageStorage,
    MRImageStorage,
    RLELossless,
)
from pynetdicom.presentation import PresentationContext
from pynetdicom.sop_class import StorageCommitmentPushModel, Verification  # type: ignore[attr-defined]

SOP_CLASSES: tuple[UID, ...] = (
    MRImageStorage,
    EnhancedMRImageStorage,
    LegacyConvertedEnhancedMRImageStorage,
)

# In the order of preference within one proposed context: what costs least to read, then
# lossless, then lossy. HTJ2K is not here: the decoders that the node ships do not know it,
# and an image that nobody can read must be refused while the sender can still convert it.
TRANSFER_SYNTAXES: tuple[UID, ...] = (
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    RLELossless,
    JPEGLosslessSV1,
    JPEGLossless,
    JPEGLSLossless,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLSNearLossless,
    JPEG2000,
)


# Reports on what an archive has committed itself to keep come on associations that it opens
EVENT_CLASS: UID = UID(StorageCommitmentPushModel)
_PLAIN = (ImplicitVRLittleEndian, ExplicitVRLittleEndian)


@cache
def supported_contexts() -> list[PresentationContext]:
    """Return the presentation contexts that each association is negotiated with.

    They are only read, and made once: that takes longer than the rest of a negotiation.
    """
    contexts = []
    for abstract, syntaxes in (
        (Verification, _PLAIN),
        (EVENT_CLASS, _PLAIN),
        *((sop_class, TRANSFER_SYNTAXES) for sop_class in SOP_CLASSES),
    ):
        context = PresentationContext()
        context.abstract_syntax = abstract
        context.transfer_syntax = list(syntaxes)
        if abstract == EVENT_CLASS:  # we are the SCU, though the peer opens the association (PS3.4 J.3.3)
            context.scu_role, context.scp_role = False, True
        contexts.append(context)
    return contexts
