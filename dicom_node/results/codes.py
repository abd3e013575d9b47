"""The codes that the results use, each with where the standard lists it."""

from __future__ import annotations

from pydicom.sr.coding import Code

from dicom_node.analysis.finding_kind import FindingKind

PRIVATE_SCHEME = "99DICOMNODE"
"""Of the concepts that no public scheme holds (PS3.16 8.2)."""

# what is segmented and reported: CID 7150, CID 4031; its type, of CID 7159, is the bundle's
ABNORMAL_STRUCTURE = Code("49755003", "SCT", "Morphologically Abnormal Structure")
BRAIN = Code("12738006", "SCT", "Brain")

# who and with what: CID 7162, CID 100, TID 1204, CID 7021, PS3.16 Annex D
ARTIFICIAL_INTELLIGENCE = Code("123110", "DCM", "Artificial Intelligence")
MR_BRAIN = Code("24590-2", "LN", "MR Brain")
ENGLISH = Code("en-US", "RFC5646", "English (United States)")
REPORT_TITLE = Code("126000", "DCM", "Imaging Measurement Report")
TITLE_WITHOUT_MEASUREMENTS = Code("126001", "DCM", "Oncology Measurement Report")
PROCEDURE_REPORTED = Code("121058", "DCM", "Procedure reported")
IMAGING_MEASUREMENTS = Code("126010", "DCM", "Imaging Measurements")
DEVICE = Code("121007", "DCM", "Device")
MR_MODALITY = Code("MR", "DCM", "Magnetic Resonance")

# measurements: CID 7469, CID 7471, and their derivations CID 7464
VOLUME = Code("118565006", "SCT", "Volume")
LONG_AXIS = Code("103339001", "SCT", "Long axis")
PERPENDICULAR_AXIS = Code("131189007", "SCT", "Perpendicular Axis")
CERTAINTY = Code("111012", "DCM", "Certainty of Finding")
POSITIVE_SLICES = Code("positive-slices", PRIVATE_SCHEME, "Number of slices called positive")
MEAN_PROBABILITY = Code("mean-probability", PRIVATE_SCHEME, "Mean probability")
MEAN = Code("373098007", "SCT", "Mean")
MAXIMUM = Code("56851009", "SCT", "Maximum")

# units, UCUM
CUBIC_CENTIMETRE = Code("cm3", "UCUM", "cubic centimeter")
MILLIMETRE = Code("mm", "UCUM", "millimeter")
PERCENT = Code("%", "UCUM", "Percent")
COUNT = Code("1", "UCUM", "no units")
SLICES = Code("{slices}", "UCUM", "slices")  # OHIF shows 0 with unit 1 as 1

# the exam as a whole: TID 1500, CID 6047, PS3.16 Annex D
QUALITATIVE_EVALUATIONS = Code("C0034375", "UMLS", "Qualitative Evaluations")
CAD_SUMMARY = Code("111017", "DCM", "CAD Processing and Findings Summary")
ALL_SUCCEEDED_WITH_FINDINGS = Code("111242", "DCM", "All algorithms succeeded; with findings")
ALL_SUCCEEDED_WITHOUT_FINDINGS = Code("111241", "DCM", "All algorithms succeeded; without findings")
ALL_FAILED = Code("111245", "DCM", "No algorithms succeeded; without findings")
PRESENT = Code("52101004", "SCT", "Present")
ABSENT = Code("272519000", "SCT", "Absent")
COMMENT = Code("121106", "DCM", "Comment")

# the image library: TID 1600
IMAGE_LIBRARY = Code("111028", "DCM", "Image Library")
IMAGE_LIBRARY_GROUP = Code("126200", "DCM", "Image Library Group")
MODALITY = Code("121139", "DCM", "Modality")
FRAME_OF_REFERENCE_UID = Code("112227", "DCM", "Frame of Reference UID")


# the key images: CID 7010
OF_INTEREST = Code("113000", "DCM", "Of Interest")

# the probability map: CID 7203, CID 7180
SEGMENTED = Code("113076", "DCM", "Segmentation")
PROBABILISTIC_SEGMENTATION = Code("110854", "DCM", "Fractional Probabilistic Segmentation")


def finding_type(finding: FindingKind) -> Code:
    """What the bundle says that its regions are."""
    return Code(finding.type.value, finding.type.scheme, finding.type.meaning)
