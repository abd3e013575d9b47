"""The report, root of every result: Comprehensive 3D SR (PS3.3 A.35.13) after TID 1500 of PS3.16.

One is made for every series that was taken on: with findings, without, and when the analysis
failed. The failed one needs no geometry and no pixels, since these may be what is broken.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from highdicom.sr import (
    CodeContentItem,
    CodedConcept,
    Comprehensive3DSR,
    ContainerContentItem,
    ContentItem,
    ContentSequence,
    DeviceObserverIdentifyingAttributes,
    LanguageOfContentItemAndDescendants,
    ObserverContext,
    RelationshipTypeValues,
    TextContentItem,
)
from pydicom import Dataset
from pydicom.sr.coding import Code

from dicom_node.analysis.finding_kind import FindingKind
from dicom_node.analysis.findings import Findings
from dicom_node.results import codes
from dicom_node.results.identity import ascii_text
from dicom_node.results.measurements import Group, measurement_groups
from dicom_node.results.provenance import MANUFACTURER, Instance, Provenance, stamp, stand_in
from dicom_node.results.result_set import Kind, ResultObject, ResultSet
from dicom_node.results.source_grid import image_reference
from dicom_node.series.volume import MRVolume

RESEARCH_USE_SENTENCE = (
    "RESEARCH USE ONLY. Made by software that is not a medical device; not for diagnosis or treatment. "
    "Nobody has verified it."
)


def make_report(
    volume: MRVolume,
    findings: Findings,
    provenance: Provenance,
    *,
    segmentation: Dataset | None = None,
    limitations: str = "",
    predecessor: ResultSet | None = None,
) -> Dataset:
    """Report what was found, or that nothing was.

    Parameters
    ----------
    segmentation : the SEG that holds the lesions, where one is made
    limitations : of the models, in sentences
    predecessor : the result that this one replaces
    """
    groups = measurement_groups(volume, findings, provenance, segmentation)
    found = bool(findings.lesions) or bool(findings.slice_positive.any())
    # Present is what both models see; where the detector alone does, neither code is true
    tumour = codes.PRESENT if findings.lesions else None if found else codes.ABSENT
    comments = (RESEARCH_USE_SENTENCE, summary(findings), limitations, *volume.remarks)
    evaluation = _evaluation(
        codes.ALL_SUCCEEDED_WITH_FINDINGS if found else codes.ALL_SUCCEEDED_WITHOUT_FINDINGS,
        findings.algorithm.finding,
        tumour,
        comments,
    )
    return _document(provenance, groups, evaluation, segmentation, predecessor)


def make_failed_report(
    cause: str,
    provenance: Provenance,
    *,
    limitations: str = "",
    predecessor: ResultSet | None = None,
) -> Dataset:
    """Report that there is no result, and why, in plain words; no finding is stated either way."""
    comments = (f"The analysis failed: {sentence(cause)}", RESEARCH_USE_SENTENCE, limitations)
    evaluation = _evaluation(codes.ALL_FAILED, provenance.algorithm.finding, None, comments)
    return _document(provenance, [], evaluation, None, predecessor)


def sentence(text: str) -> str:
    """End a text as a sentence: viewers run one into the next."""
    return text if text.endswith((".", "!", "?")) else f"{text}."


def summary(findings: Findings) -> str:
    """Say the result in one sentence."""
    positive, slices = int(findings.slice_positive.sum()), len(findings.slice_positive)
    detector = f"the detector called {positive} of {slices} slices positive"
    if not findings.lesions:
        return f"No region was outlined; {detector}."
    count = len(findings.lesions)
    millilitres = sum(lesion.volume_ml for lesion in findings.lesions)
    regions = "1 region was" if count == 1 else f"{count} regions were"
    return f"{regions} outlined, {millilitres:.1f} ml in all; {detector}."


def _document(
    provenance: Provenance,
    groups: Sequence[Group],
    evaluation: ContainerContentItem,
    segmentation: Dataset | None,
    predecessor: ResultSet | None,
) -> Dataset:
    # OHIF fails on an Imaging Measurement Report that has none, and shows another title's text; nor can
    # it show text beside images that have no concept name, as those of the library
    title = codes.REPORT_TITLE if groups else codes.TITLE_WITHOUT_MEASUREMENTS
    root = ContainerContentItem(name=title, template_id="1500")
    root.ContentSequence = ContentSequence()
    root.ContentSequence.extend(LanguageOfContentItemAndDescendants(CodedConcept.from_code(codes.ENGLISH)))
    root.ContentSequence.extend(observer_of(provenance))
    procedure = CodeContentItem(
        codes.PROCEDURE_REPORTED, codes.MR_BRAIN, RelationshipTypeValues.HAS_CONCEPT_MOD
    )
    root.ContentSequence.append(procedure)
    context_length = len(root.ContentSequence)
    if groups:
        measured = ContainerContentItem(
            codes.IMAGING_MEASUREMENTS, relationship_type=RelationshipTypeValues.CONTAINS
        )
        measured.ContentSequence = ContentSequence()
        for group in groups:
            measured.ContentSequence.extend(group)
        root.ContentSequence.append(measured)
    root.ContentSequence.append(evaluation)
    report = Comprehensive3DSR(
        evidence=_stand_ins(provenance, segmentation, groups),
        content=root,
        series_instance_uid=provenance.series_uid(Kind.SR),
        series_number=1,
        sop_instance_uid=provenance.instance_uid(Kind.SR),
        instance_number=1,
        manufacturer=MANUFACTURER,
        is_complete=True,
        is_final=False,
        is_verified=False,
    )
    report.CurrentRequestedProcedureEvidenceSequence = _evidence(provenance, segmentation)
    if groups:
        items = list(report.ContentSequence)
        library = _image_library(provenance)
        report.ContentSequence = [*items[:context_length], library, *items[context_length:]]
        report.CodingSchemeIdentificationSequence = [_private_scheme()]
    if predecessor is not None:
        report.PredecessorDocumentsSequence = [_predecessor(predecessor)]
    stamp(report, provenance, Kind.SR)
    return report


def observer_of(provenance: Provenance) -> ObserverContext:
    """TID 1004: the node with these weights."""
    algorithm = provenance.algorithm
    device = DeviceObserverIdentifyingAttributes(
        uid=provenance.device_uid,
        name=MANUFACTURER,
        manufacturer_name=MANUFACTURER,
        model_name=ascii_text(f"{algorithm.name} {algorithm.version}", 64),
        serial_number=ascii_text(algorithm.weights_sha256[:16] or "0"),
    )
    return ObserverContext(CodedConcept.from_code(codes.DEVICE), device)


def _evaluation(
    outcome: Code, kind: FindingKind, tumour: Code | None, comments: Iterable[str]
) -> ContainerContentItem:
    """The exam as a whole: rows 12 to 14 of TID 1500, which highdicom does not make."""
    contains = RelationshipTypeValues.CONTAINS
    items: list[ContentItem] = [CodeContentItem(codes.CAD_SUMMARY, outcome, contains)]
    if tumour is not None:
        items.append(CodeContentItem(codes.finding_type(kind), tumour, contains))
    texts = (ascii_text(comment).strip() for comment in comments)
    items += [TextContentItem(codes.COMMENT, text, contains) for text in texts if text]
    container = ContainerContentItem(codes.QUALITATIVE_EVALUATIONS, relationship_type=contains)
    container.ContentSequence = ContentSequence(items)
    return container


def _image_library(provenance: Provenance) -> Dataset:
    """TID 1600 with what all images share; highdicom's has 20 descriptors and takes 20 ms per image.

    The images' own headers are the place to look up the rest.
    """
    shared = [_content_item("CODE", "HAS ACQ CONTEXT", codes.MODALITY)]
    shared[0].ConceptCodeSequence = [_code(codes.MR_MODALITY)]
    frame_of_reference = provenance.source.header.get("FrameOfReferenceUID")
    if frame_of_reference:
        item = _content_item("UIDREF", "HAS ACQ CONTEXT", codes.FRAME_OF_REFERENCE_UID)
        item.UID = frame_of_reference
        shared.append(item)
    images = []
    for instance in provenance.source.instances:
        image = Dataset()
        image.RelationshipType = "CONTAINS"
        image.ValueType = "IMAGE"
        image.ReferencedSOPSequence = [image_reference(instance.sop_class_uid, instance.sop_instance_uid)]
        images.append(image)
    group = _content_item("CONTAINER", "CONTAINS", codes.IMAGE_LIBRARY_GROUP)
    group.ContinuityOfContent = "SEPARATE"
    group.ContentSequence = shared + images
    library = _content_item("CONTAINER", "CONTAINS", codes.IMAGE_LIBRARY)
    library.ContinuityOfContent = "SEPARATE"
    library.ContentSequence = [group]
    return library


def _content_item(value_type: str, relationship: str, name: Code) -> Dataset:
    item = Dataset()
    item.RelationshipType = relationship
    item.ValueType = value_type
    item.ConceptNameCodeSequence = [_code(name)]
    return item


def _code(code: Code) -> Dataset:
    item = Dataset()
    item.CodeValue = code.value
    item.CodingSchemeDesignator = code.scheme_designator
    item.CodeMeaning = code.meaning
    return item


def _evidence(provenance: Provenance, segmentation: Dataset | None) -> list[Dataset]:
    """Current Requested Procedure Evidence (PS3.3 C.17.2): all source images and the SEG."""
    by_series: dict[str, list[Dataset]] = {}
    for instance in _evident(provenance, segmentation):
        reference = image_reference(instance.sop_class_uid, instance.sop_instance_uid)
        by_series.setdefault(instance.series_uid, []).append(reference)
    study = Dataset()
    study.StudyInstanceUID = provenance.source.study_instance_uid
    study.ReferencedSeriesSequence = []
    for series_uid, references in by_series.items():
        series = Dataset()
        series.ReferencedSOPSequence = references
        series.SeriesInstanceUID = series_uid
        study.ReferencedSeriesSequence.append(series)
    return [study]


def _evident(provenance: Provenance, segmentation: Dataset | None) -> Iterator[Instance]:
    yield from provenance.source.instances
    if segmentation is not None:
        yield Instance(segmentation.SeriesInstanceUID, segmentation.SOPClassUID, segmentation.SOPInstanceUID)


def _stand_ins(
    provenance: Provenance, segmentation: Dataset | None, groups: Sequence[Group]
) -> list[Dataset]:
    """What highdicom asks to see: the instances that the groups refer to, or any. A list of all is slow."""
    named = {uid for group in groups for item in group for uid in _referred_to(item)}
    made: list[Dataset] = []
    for instance in _evident(provenance, segmentation):
        if instance.sop_instance_uid in named or not (named or made):
            ds = stand_in(provenance)
            ds.SeriesInstanceUID = instance.series_uid
            ds.SOPClassUID = instance.sop_class_uid
            ds.SOPInstanceUID = instance.sop_instance_uid
            made.append(ds)
    return made


def _referred_to(item: Dataset) -> Iterator[str]:
    for reference in item.get("ReferencedSOPSequence", ()):
        yield str(reference.ReferencedSOPInstanceUID)
    for below in item.get("ContentSequence", ()):
        yield from _referred_to(below)


def report_of(result: ResultSet) -> ResultObject:
    """The root of a result."""
    return next(made for made in result.objects if made.kind is Kind.SR)


def _predecessor(result: ResultSet) -> Dataset:
    """Hierarchical SOP Instance Reference macro (PS3.3 C.17.2.1)."""
    root = report_of(result)
    series = Dataset()
    series.SeriesInstanceUID = root.series_instance_uid
    series.ReferencedSOPSequence = [image_reference(root.sop_class_uid, root.sop_instance_uid)]
    item = Dataset()
    item.StudyInstanceUID = result.study_instance_uid
    item.ReferencedSeriesSequence = [series]
    return item


def _private_scheme() -> Dataset:
    """Coding Scheme Identification (PS3.3 C.12.1.1.1) of the node's own codes."""
    item = Dataset()
    item.CodingSchemeDesignator = codes.PRIVATE_SCHEME
    item.CodingSchemeName = "Concepts of dicom-node"
    item.CodingSchemeResponsibleOrganization = MANUFACTURER
    return item
