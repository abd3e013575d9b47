"""Results belong to the patient and study of their source, byte for byte.

Covered: names in the character sets of PS3.3 C.12.1.1.2 that PACS hold; headers with missing
or illegal values; deterministic UIDs and what changes them; dates; that the source is not
altered.
Not covered: how a PACS displays a character set.
"""

from __future__ import annotations

import warnings
from copy import deepcopy
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from io import BytesIO

import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.charset import convert_encodings
from pydicom.config import disable_value_validation
from pydicom.dataelem import DataElement
from pydicom.uid import ExplicitVRBigEndian, ImplicitVRLittleEndian
from pydicom.valuerep import PersonName

from dicom_node.errors import ResultInvalid
from dicom_node.phantom.mr_series import Storage
from dicom_node.results.identity import REQUIRED, ascii_text, identity_of
from dicom_node.results.provenance import Provenance, Source
from dicom_node.results.result_set import Kind
from dicom_node.series.volume import MRVolume
from tests.results.result_cases import (
    MADE_AT,
    Case,
    dciodvfy,
    findings_of,
    make_case,
    negative,
    path_of,
    read,
    run,
    run_failure,
)

# the second byte of this character in GB18030 is that of a backslash
BACKSLASH = next(chr(c) for c in range(0x4E00, 0x9FFF) if chr(c).encode("gb18030")[1:2] == b"\x5c")

NAMES = {
    "default": (None, "Smith^John^^Dr"),
    "latin 1": ("ISO_IR 100", "Müller^Jörg"),
    "latin 2": ("ISO_IR 101", "Łukasz^Żółć"),
    "latin 3": ("ISO_IR 109", "Ĉiuĵaŭde^Ġorġ"),
    "latin 4": ("ISO_IR 110", "Jānis^Šķēle"),
    "latin 5": ("ISO_IR 148", "Çavuşoğlu^İbrahim"),
    "cyrillic": ("ISO_IR 144", "Люкceмбypг"),
    "arabic": ("ISO_IR 127", "قباني^لنزار"),
    "greek": ("ISO_IR 126", "Διονυσιος"),
    "hebrew": ("ISO_IR 138", "שרון^דבורה"),
    "thai": ("ISO_IR 166", "นามสกุล^ชื่อ"),
    # in bytes: pydicom does not write both halves of JIS X 0201 without a second character set
    "katakana": ("ISO_IR 13", "ﾔﾏﾀﾞ^ﾀﾛｳ".encode("shift_jis")),
    "japanese": (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎=やまだ^たろう"),
    "japanese half width": (["ISO 2022 IR 13", "ISO 2022 IR 87"], "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎=やまだ^たろう"),
    "korean": (["", "ISO 2022 IR 149"], "Hong^Gildong=洪^吉洞=홍^길동"),
    # from PS3.5 K.2: pydicom itself writes this one without its escape sequences
    "chinese 2022": (
        ["", "ISO 2022 IR 58"],
        b"Zhang^XiaoDong=\x1b$)A\xd5\xc5^\x1b$)A\xd0\xa1\xb6\xab",
    ),
    "chinese": ("GB18030", f"Wang^XiaoDong=王^小东{BACKSLASH}="),
    "chinese gbk": ("GBK", "Wang^XiaoDong=王^小东="),
    "utf-8": ("ISO_IR 192", "Wang^XiaoDong=王^小東=Ωμέγα"),
}


def with_header_changes(case: Case, change) -> Case:
    """Apply ``change`` to every header and read the bytes back, as from a file."""
    headers = []
    for header in case.volume.headers:
        changed = deepcopy(header)
        with disable_value_validation():
            change(changed)
            buffer = BytesIO()
            changed.save_as(buffer, enforce_file_format=True)
        buffer.seek(0)
        headers.append(dcmread(buffer))
    volume = case.volume
    return Case(
        MRVolume(volume.voxels, volume.affine, volume.frames, tuple(headers), volume.contrast), case.findings
    )


def raw(dataset: Dataset, keyword: str) -> bytes:
    return dataset.get_item(keyword).value or b""


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("decoded_before", [False, True], ids=["raw", "decoded"])
def test_the_name_is_copied_byte_for_byte_in(name, decoded_before, case, tmp_path):
    character_set, text = NAMES[name]
    value = (
        PersonName(text, convert_encodings(character_set)) if isinstance(text, bytes) else PersonName(text)
    )

    def change(header):
        if character_set is None:
            del header.SpecificCharacterSet
        else:
            header.SpecificCharacterSet = character_set
        header.add(DataElement("PatientName", "PN", value, already_converted=True))
        header.add(DataElement("OtherPatientNames", "PN", [value, value], already_converted=True))
        header.add(DataElement("StudyDescription", "LO", text, already_converted=True))

    changed = with_header_changes(case, change)
    keywords = ["PatientName"] if decoded_before else ["PatientName", "OtherPatientNames", "StudyDescription"]
    expected = {keyword: raw(changed.volume.headers[0], keyword) for keyword in keywords}
    if decoded_before:
        str(changed.volume.headers[0])
    result = run(changed, tmp_path)
    for kind in Kind:
        made = dcmread(path_of(result, kind))
        assert {keyword: raw(made, keyword) for keyword in keywords} == expected
        assert made.get("SpecificCharacterSet") == changed.volume.headers[0].get("SpecificCharacterSet")
        assert made.PatientName == changed.volume.headers[0].PatientName


def test_bytes_that_their_character_set_does_not_allow_are_copied_all_the_same(case, tmp_path):
    def change(header):
        del header.SpecificCharacterSet
        name = PersonName("Müller^Jörg".encode("latin-1"))
        header.add(DataElement("PatientName", "PN", name, already_converted=True))

    result = run(with_header_changes(case, change), tmp_path)
    for kind in Kind:
        assert raw(dcmread(path_of(result, kind)), "PatientName").strip() == b"M\xfcller^J\xf6rg"


def test_a_character_set_that_nobody_knows_is_copied_with_its_bytes(case, tmp_path):
    def change(header):
        header.PatientName = "Smith^John"
        header.StudyDescription = "MR brain"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            header.SpecificCharacterSet = "ISO_IR 999"

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        changed = with_header_changes(case, change)
        result = run(changed, tmp_path)
        made = read(result, Kind.SR)
    assert raw(made, "PatientName") == b"Smith^John"
    assert made.SpecificCharacterSet == "ISO_IR 999"


@pytest.mark.parametrize(
    ("character_set", "name"),
    [
        ("ISO_IR 192", "Müller^Jörg".encode("latin-1")),  # says UTF-8, is Latin 1
        ("ISO_IR 100", "Müller^Jörg".encode()),  # the other way round
        (["", "ISO 2022 IR 87"], "山田^太郎".encode("shift_jis")),
        ("ISO_IR 6", "Łukasz".encode()),
        (["ISO_IR 100", "ISO_IR 192"], "Müller^Jörg".encode()),  # 192 may not have company
    ],
    ids=["UTF-8 for Latin 1", "Latin 1 for UTF-8", "ISO 2022 for Shift JIS", "ASCII for UTF-8", "two"],
)
def test_a_name_in_another_character_set_than_is_stated_is_copied_byte_for_byte(
    character_set, name, case, tmp_path
):
    def change(header):
        header.SpecificCharacterSet = character_set
        header.add(DataElement("PatientName", "PN", PersonName(name), already_converted=True))

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        changed = with_header_changes(case, change)
        before = raw(changed.volume.headers[0], "PatientName")
        assert before.strip() == name
        result = run(changed, tmp_path)
        for kind in Kind:
            made = read(result, kind)
            assert raw(made, "PatientName") == before
            assert made.SpecificCharacterSet == character_set


@pytest.mark.parametrize(
    "keyword",
    REQUIRED,
)
def test_a_missing_type_2_attribute_is_empty_in_the_result(keyword, tmp_path):
    case = make_case(attributes={keyword: None})
    result = run(case, tmp_path)
    for kind in Kind:
        made = read(result, kind)
        assert keyword in made
        assert raw(made, keyword) == b""


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("PatientSex", "U"),
        ("PatientSex", "0000"),
        ("AccessionNumber", "2026/0001-MR-0000000001"),
        ("StudyID", "S" * 20),
        ("PatientBirthDate", "19700000"),
        ("PatientBirthDate", "unknown"),
        ("StudyTime", "25:61"),
        ("PatientAge", "45"),
        ("PatientWeight", "70,5"),
        ("PatientID", "X" * 70),
        ("StudyDescription", "T" * 80),
        ("TimezoneOffsetFromUTC", "CET"),
        ("SeriesNumber", "one"),
    ],
)
def test_an_illegal_value_of_the_source_does_no_harm(keyword, value, case, tmp_path):
    def change(header):
        header.add(DataElement(keyword, "LO", value, already_converted=True))
        header[keyword].VR = "LO"

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        changed = with_header_changes(case, change)
    result = run(changed, tmp_path)
    if keyword != "SeriesNumber":
        for kind in Kind:
            assert raw(read(result, kind), keyword).decode().strip() == value


@pytest.mark.parametrize("keyword", ["AccessionNumber", "StudyID", "PatientSex", "PatientBirthDate"])
def test_an_empty_value_stays_empty(keyword, tmp_path):
    result = run(make_case(attributes={keyword: ""}), tmp_path)
    for made in result.objects:
        dataset = dcmread(made.path)
        assert raw(dataset, keyword) == b""
        assert dciodvfy(made.path)[0] == []


@pytest.mark.parametrize("keyword", ["SliceThickness", "SpacingBetweenSlices", "FrameOfReferenceUID"])
def test_a_source_without_it_still_gets_a_result(keyword, tmp_path):
    result = run(make_case(attributes={keyword: None}), tmp_path)
    assert len(result.objects) == len(Kind)


def test_the_headers_of_the_source_are_not_altered(tmp_path):
    case = make_case()

    def encoded():
        buffers = []
        for header in case.volume.headers:
            buffer = BytesIO()
            header.save_as(buffer)
            buffers.append(buffer.getvalue())
        return buffers

    before = encoded()
    run(case, tmp_path)
    run_failure(case.volume.headers, tmp_path / "failure")
    assert encoded() == before


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian], ids=lambda uid: uid.name)
def test_the_transfer_syntax_of_the_source_does_not_matter(syntax, tmp_path):
    procedure = Dataset()
    procedure.CodeValue, procedure.CodingSchemeDesignator = "24590-2", "LN"
    procedure.CodeMeaning = "MR Brain"
    attributes = {"ProcedureCodeSequence": [procedure], "PatientComments": "none"}
    case = make_case(storage=Storage(transfer_syntax=syntax), attributes=attributes)
    for made in run(case, tmp_path).objects:
        dataset = dcmread(made.path)
        assert dataset.PatientComments == "none"
        assert dataset.ProcedureCodeSequence[0].CodeMeaning == "MR Brain"


@pytest.mark.filterwarnings("ignore:Invalid value for VR UI:UserWarning")
def test_uids_that_a_scanner_wrote_with_leading_zeros_are_copied(tmp_path):
    case = make_case(attributes={"StudyInstanceUID": "1.2.0840.007", "SeriesInstanceUID": "1.2.0840.008"})
    assert read(run(case, tmp_path), Kind.SEG).StudyInstanceUID == "1.2.0840.007"


def test_sequences_of_the_study_are_copied(case, tmp_path):
    def change(header):
        item = Dataset()
        item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = "24590-2", "LN", "MR Brain"
        header.ProcedureCodeSequence = [item]

    changed = with_header_changes(case, change)
    made = read(run(changed, tmp_path), Kind.SEG)
    assert made.ProcedureCodeSequence[0].CodeValue == "24590-2"
    assert identity_of(made) == identity_of(changed.volume.headers[0])


def test_nothing_of_the_source_series_or_scanner_is_copied(result):
    for kind in Kind:
        made = read(result, kind)
        assert made.Manufacturer == "dicom-node"
        assert "ProtocolName" not in made
        assert made.SeriesDescription.endswith("RESEARCH USE ONLY")
        assert made.ContributingEquipmentSequence[0].PurposeOfReferenceCodeSequence[0].CodeValue == "109102"


def test_each_kind_has_its_series_beside_the_source(case, result):
    made = [read(result, kind) for kind in Kind]
    assert len({m.SeriesInstanceUID for m in made}) == len(Kind)
    assert len({m.SeriesNumber for m in made}) == len(Kind)
    assert {m.SeriesNumber // 100 for m in made} == {int(case.volume.headers[0].SeriesNumber)}
    assert {m.StudyInstanceUID for m in made} == {case.volume.headers[0].StudyInstanceUID}


def test_the_same_inputs_give_the_same_uids_and_any_other_input_gives_others(case):
    source = Source.of_headers(case.volume.headers)
    first = Provenance(source, case.findings.algorithm, "site", "digest", MADE_AT)
    later = replace(first, made_at=MADE_AT + timedelta(days=1))
    assert later.instance_uid(Kind.SR) == first.instance_uid(Kind.SR)
    fewer = Source.of_headers(case.volume.headers[:-1])
    retrained = replace(case.findings.algorithm, weights_sha256="00" * 32)
    others = [
        replace(first, source=fewer),
        replace(first, algorithm=retrained),
        replace(first, site_salt="other"),
        replace(first, configuration_digest="other"),
        replace(first, outcome="failed"),
    ]
    uids = {p.instance_uid(kind) for p in [first, *others] for kind in Kind}
    assert len(uids) == (1 + len(others)) * len(Kind)


def test_a_late_slice_makes_new_instances_of_the_same_series_and_another_model_another_series(case):
    source = Source.of_headers(case.volume.headers[:-1])
    first = Provenance(source, case.findings.algorithm, "site", "digest", MADE_AT)
    late = replace(first, source=Source.of_headers(case.volume.headers), version=2)
    again = replace(first, run=2, version=3)
    for later in (late, again):
        assert later.series_uid(Kind.SR) == first.series_uid(Kind.SR)
        assert later.series_uid(Kind.SEG) == first.series_uid(Kind.SEG)
        # a series of pictures is opened at its first one
        assert later.series_uid(Kind.SC) != first.series_uid(Kind.SC)
        assert later.instance_uid(Kind.SR) != first.instance_uid(Kind.SR)
    for other in (
        replace(late, algorithm=replace(case.findings.algorithm, weights_sha256="00" * 32)),
        replace(late, configuration_digest="other"),
        replace(late, site_salt="other"),
        replace(late, apart=True),
    ):
        assert other.series_uid(Kind.SR) != first.series_uid(Kind.SR)


def test_a_later_version_has_its_number_and_the_date_of_the_series(case, tmp_path):
    first = run(case, tmp_path / "1")
    day = timedelta(days=1)
    second = run(case, tmp_path / "2", predecessor=first, version=2, run=2, made_at=MADE_AT + day)
    for kind in (Kind.SEG, Kind.SR):
        before, after = read(first, kind), read(second, kind)
        assert after.SeriesInstanceUID == before.SeriesInstanceUID
        assert after.SOPInstanceUID != before.SOPInstanceUID
        assert (before.InstanceNumber, after.InstanceNumber) == (1, 2)
        assert (after.SeriesDate, after.SeriesTime) == (before.SeriesDate, before.SeriesTime)
        assert after.SeriesDescription == before.SeriesDescription
        assert after.ContentDate > before.ContentDate
    picture = read(second, Kind.SC)
    assert picture.SeriesDate == picture.ContentDate
    assert picture.SeriesDescription == "Tumour summary picture 2, RESEARCH USE ONLY"


def test_the_order_of_the_headers_does_not_change_the_uids(case):
    first, second = (
        Provenance(Source.of_headers(headers), case.findings.algorithm, "site", "digest", MADE_AT)
        for headers in (case.volume.headers, case.volume.headers[::-1])
    )
    assert first.series_uid(Kind.SEG) == second.series_uid(Kind.SEG)


def test_dates_are_in_the_time_zone_that_the_source_states(tmp_path):
    result = run(make_case(attributes={"TimezoneOffsetFromUTC": "+0530"}), tmp_path)
    made = read(result, Kind.SR)
    assert (made.ContentDate, made.ContentTime, made.TimezoneOffsetFromUTC) == ("20260105", "170000", "+0530")


@pytest.mark.parametrize("offset", ["+2400", "-9999", "+0060"])
def test_an_offset_that_no_time_zone_has_is_copied_and_changes_no_date(offset, tmp_path):
    made = read(run(make_case(attributes={"TimezoneOffsetFromUTC": offset}), tmp_path), Kind.SR)
    assert (made.ContentDate, made.ContentTime, made.TimezoneOffsetFromUTC) == ("20260105", "113000", offset)


def test_dates_are_in_the_given_time_zone_when_the_source_states_none(case, tmp_path):
    zone = timezone(timedelta(hours=-8))
    made = read(run(negative(case), tmp_path, made_at=MADE_AT.astimezone(zone)), Kind.SR)
    assert (made.ContentDate, made.ContentTime) == ("20260105", "033000")


def test_a_time_without_a_zone_is_refused(case, tmp_path):
    with pytest.raises(ValueError, match="aware"):
        run(case, tmp_path, made_at=datetime(2026, 1, 5))  # noqa: DTZ001


def test_headers_may_be_padded_differently(case, tmp_path):
    headers = [deepcopy(header) for header in case.volume.headers]
    for header in headers[1:]:
        header.PatientID += "  "
    assert run_failure(headers, tmp_path).objects


def test_a_header_without_a_uid_is_refused_by_name(case, tmp_path):
    header = deepcopy(case.volume.headers[0])
    del header.SeriesInstanceUID
    with pytest.raises(ResultInvalid, match="SeriesInstanceUID"):
        run_failure([header], tmp_path)


def test_a_result_needs_a_header(tmp_path):
    with pytest.raises(ResultInvalid, match="at least one header"):
        run_failure([], tmp_path)


def test_two_stacks_of_one_multi_frame_instance_have_different_uids(tmp_path):
    volume = make_case(multi_frame=True).volume
    uids = set()
    for name, part in (("lower", slice(0, 6)), ("upper", slice(6, 12))):
        half = replace(volume, voxels=volume.voxels[part], frames=volume.frames[part])
        result = run(Case(half, findings_of(half, np.zeros_like(half.voxels))), tmp_path / name)
        uids |= {made.sop_instance_uid for made in result.objects}
    assert len(uids) == 4


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Größe ≥ 5 mm", "Grosse >= 5 mm"),
        ("naïve – “quoted” × 2 ± 1", 'naive - "quoted" x 2 +/- 1'),
        ("back\\slash", "back/slash"),
        ("山田", "??"),
    ],
)
def test_text_of_our_own_is_ascii_and_keeps_its_meaning(text, expected):
    assert ascii_text(text) == expected


def test_text_of_our_own_can_be_cut_to_the_length_of_its_vr():
    assert ascii_text("x" * 70, 64) == "x" * 64
