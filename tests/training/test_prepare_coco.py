"""``prepare coco``: outlines become masks again, images keep their values, and what is wrong is named.

Masks are held against those that the outlines were made from, by cv2 and by COCO's own encoder.
Not covered: what each drawing tool means by its coordinates; ``--vertices`` says it for all.
"""

from __future__ import annotations

import csv
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from pycocotools import mask as coco_mask
from typer.testing import CliRunner

from dicom_node.errors import ConfigurationError
from tests.training.labelled import cases_in, read_png
from training.cases import read_cases
from training.cli import app
from training.prepare.coco import outline_mask, prepare_coco
from training.prepare.vertices import Vertices

HEIGHT, WIDTH = 40, 56
PATTERN = r"(?P<patient>[a-z]+)_(?P<slice>[0-9]+)\."


def blobs(seed: int) -> np.ndarray:
    """Two pieces with dents, one of them at the edge of the image; no holes, which polygons cannot say."""
    noise = np.random.default_rng(seed).random((HEIGHT, WIDTH), dtype=np.float32)
    field = cv2.GaussianBlur(noise, (0, 0), 3)
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    for part in (np.s_[4:20, 5:25], np.s_[24:40, 30:56]):
        piece = np.zeros_like(mask)
        piece[part] = field[part] > np.quantile(field[part], 0.4)
        contours, _ = cv2.findContours(piece, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        largest = max(contours, key=cv2.contourArea)
        cv2.fillPoly(mask, [largest], 1)
    return mask.astype(bool)


def contours_of(mask: np.ndarray) -> list[list[int]]:
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return [contour.ravel().tolist() for contour in contours]


def runs_of(mask: np.ndarray) -> list[int]:
    """Uncompressed run lengths, counted here."""
    flat = np.concatenate([[False], mask.ravel(order="F")])
    ends = np.flatnonzero(np.diff(flat)).tolist()
    edges = [0, *ends, mask.size]
    return np.diff(edges).tolist()


@pytest.mark.parametrize("seed", range(4))
def test_a_mask_made_to_polygons_by_cv2_comes_back(seed):
    mask = blobs(seed)
    assert mask[-1].any() or mask[:, -1].any()
    back = outline_mask(contours_of(mask), HEIGHT, WIDTH, Vertices.CENTRES)
    np.testing.assert_array_equal(back, mask)


@pytest.mark.parametrize("seed", range(4))
def test_run_lengths_come_back_compressed_or_not(seed):
    mask = blobs(seed)
    packed = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"].decode()
    for counts in (packed, runs_of(mask)):
        back = outline_mask({"size": [HEIGHT, WIDTH], "counts": counts}, HEIGHT, WIDTH, Vertices.EDGES)
        np.testing.assert_array_equal(back, mask)


def test_edges_and_centres_differ_by_the_half_pixels_that_they_mean():
    square = [[2, 1, 5, 1, 5, 4, 2, 4]]
    edges = np.argwhere(outline_mask(square, 8, 8, Vertices.EDGES))
    centres = np.argwhere(outline_mask(square, 8, 8, Vertices.CENTRES))
    assert (edges.min(axis=0).tolist(), edges.max(axis=0).tolist()) == ([1, 2], [3, 4])
    assert (centres.min(axis=0).tolist(), centres.max(axis=0).tolist()) == ([1, 2], [4, 5])


@pytest.mark.parametrize("vertices", Vertices)
def test_polygons_that_overlap_are_united_and_leave_no_hole(vertices):
    first, second = [[2, 2, 20, 2, 20, 20, 2, 20], [10, 10, 30, 10, 30, 30, 10, 30]]
    both = outline_mask([first, second], HEIGHT, WIDTH, vertices)
    alone = [outline_mask([polygon], HEIGHT, WIDTH, vertices) for polygon in (first, second)]
    np.testing.assert_array_equal(both, alone[0] | alone[1])
    assert (alone[0] & alone[1]).any()


@pytest.mark.parametrize(
    ("segmentation", "reason"),
    [
        (None, "has no outline"),
        ([], "has no outline"),
        ([[2, 2, 9, 9]], "not three or more pairs"),  # COCO's library would take it for a box
        ([[2, 2, 9, 9, 3, 4, 5]], "not three or more pairs"),
        ([[2, 2, 9, "x", 3, 4]], "not three or more pairs"),
        ([[2, 2, 9, float("nan"), 3, 4]], "far outside"),
        ([[2, 2, 9, 1e9, 3, 4]], "far outside"),
        (
            {"size": [WIDTH, HEIGHT], "counts": [WIDTH * HEIGHT]},
            "is for 40 x 56 pixels, its",
        ),
        ({"size": [HEIGHT, WIDTH], "counts": [4, 5]}, "do not fill its image"),
        ({"size": [HEIGHT, WIDTH], "counts": [4, -5, HEIGHT * WIDTH + 1]}, "do not fill its image"),
        ({"size": [HEIGHT, WIDTH], "counts": "04"}, "do not fill its image"),
        ({"size": [HEIGHT, WIDTH], "counts": ""}, "do not fill its image"),
        ({"size": [HEIGHT, WIDTH], "counts": "not a mask"}, "do not fill its image"),
        ({"size": [HEIGHT, WIDTH], "counts": None}, "do not fill its image"),
    ],
)
def test_an_outline_that_cannot_be_is_refused(segmentation, reason):
    with pytest.raises(ValueError, match=reason):
        outline_mask(segmentation, HEIGHT, WIDTH, Vertices.EDGES)


class Labelled:
    """A folder of images with its COCO file, to be changed and written."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "images").mkdir()
        self.masks: dict[str, np.ndarray] = {}
        self.images: dict[str, np.ndarray] = {}
        self.coco = {
            "info": {"description": "is not read"},
            "categories": [{"id": 7, "name": "tumour"}, {"id": 3, "name": "oedema"}],
            "images": [],
            "annotations": [],
        }

    def add(self, name: str, tumour: np.ndarray | None, *, dtype: type = np.uint8) -> None:
        number = len(self.images)
        top = np.iinfo(dtype).max
        image = (np.random.default_rng(number).random((HEIGHT, WIDTH)) * top).astype(dtype)
        lossless = [cv2.IMWRITE_WEBP_QUALITY, 101] if name.endswith(".webp") else []
        cv2.imwrite(str(self.folder / "images" / name), image, lossless)
        self.images[name] = image
        self.masks[name] = np.zeros((HEIGHT, WIDTH), bool) if tumour is None else tumour
        self.coco["images"].append({"id": number, "file_name": name, "width": WIDTH, "height": HEIGHT})
        for polygon in [] if tumour is None else contours_of(tumour):  # an annotation for each piece
            self.annotate(number, [polygon], 7)

    def annotate(self, image: int, segmentation: object, category: int) -> None:
        number = len(self.coco["annotations"]) + 1
        self.coco["annotations"].append(
            {"id": number, "image_id": image, "category_id": category, "segmentation": segmentation}
        )

    @property
    def json(self) -> Path:
        path = self.folder / "coco.json"
        path.write_text(json.dumps(self.coco))
        return path

    def prepare(self, out: Path, **arguments: object) -> object:
        defaults = {"fractions": (0.5, 0.25, 0.25), "seed": 1, "vertices": Vertices.CENTRES}
        return prepare_coco(self.json, self.folder / "images", out, **{**defaults, **arguments})


@pytest.fixture
def labelled(tmp_path):
    """Four patients of two or three slices, in the order of nobody."""
    made = Labelled(tmp_path)
    for name in ("cy_10.png", "ann_2.webp", "bob_1.png", "cy_9.png", "dee_1.png", "ann_1.webp", "cy_2.png"):
        made.add(name, blobs(len(made.images)) if name[0] in "ac" and name != "cy_9.png" else None)
    made.add("bob_2.png", None)
    made.add("dee_2.png", blobs(9))
    return made


def test_slices_of_a_patient_become_a_volume_in_the_order_of_their_numbers(labelled, tmp_path):
    done = labelled.prepare(tmp_path / "out", pattern=PATTERN, categories=["tumour"])
    cases = {case.patient: case for case in cases_in(tmp_path / "out")}
    assert cases.keys() == {"ann", "bob", "cy", "dee"}
    for patient, names in {
        "ann": ["ann_1.webp", "ann_2.webp"],
        "bob": ["bob_1.png", "bob_2.png"],
        "cy": ["cy_2.png", "cy_9.png", "cy_10.png"],
        "dee": ["dee_1.png", "dee_2.png"],
    }.items():
        np.testing.assert_array_equal(cases[patient].voxels, np.stack([labelled.images[n] for n in names]))
        np.testing.assert_array_equal(cases[patient].mask, np.stack([labelled.masks[n] for n in names]))
    assert done.remarks == ("4 images have no annotation: they are taken to show no tumour.",)


def test_sixteen_bits_stay_sixteen(tmp_path):
    made = Labelled(tmp_path)
    made.add("a_1.png", blobs(1), dtype=np.uint16)
    made.prepare(tmp_path / "out", pattern=PATTERN, fractions=(1, 0, 0))
    (image,) = (tmp_path / "out" / "images").iterdir()
    assert read_png(image).dtype == np.uint16
    np.testing.assert_array_equal(read_png(image), made.images["a_1.png"])


def test_only_the_chosen_categories_are_tumour(labelled, tmp_path):
    labelled.annotate(2, [[2, 2, 20, 2, 20, 20, 2, 20]], 3)  # oedema of bob
    labelled.prepare(tmp_path / "one", pattern=PATTERN, categories=["tumour"])
    labelled.prepare(tmp_path / "all", pattern=PATTERN)
    marked = [
        {case.patient for case in cases_in(tmp_path / name) if case.mask.any()} for name in ("one", "all")
    ]
    assert marked == [{"ann", "cy", "dee"}, {"ann", "bob", "cy", "dee"}]
    with pytest.raises(ConfigurationError, match="no category tumor; there are oedema, tumour"):
        labelled.prepare(tmp_path / "none", categories=["tumor"])


def test_without_a_pattern_every_image_is_its_own_patient_and_that_is_said(labelled, tmp_path):
    done = labelled.prepare(tmp_path / "out")
    assert len(cases_in(tmp_path / "out")) == 9
    assert any("every image is its own patient" in remark for remark in done.remarks)


def change_size(made):
    made.coco["images"][0]["width"] += 1


def change_colour(made):
    image = cv2.cvtColor(made.images["cy_10.png"], cv2.COLOR_GRAY2BGR)
    image[3, 3] = (0, 0, 255)
    cv2.imwrite(str(made.folder / "images" / "cy_10.png"), image)


def change_type(made):
    cv2.imwrite(str(made.folder / "images" / "cy_10.png"), made.images["cy_10.png"].astype(np.uint16))


def cut_short(made):
    path = made.folder / "images" / "cy_10.png"
    done, jpeg = cv2.imencode(".jpg", made.images["cy_10.png"])
    assert done
    path.write_bytes(jpeg.tobytes()[:-200])


def no_image(made):
    (made.folder / "images" / "cy_10.png").write_text("no image")


def no_file(made):
    (made.folder / "images" / "cy_10.png").unlink()


def same_slice(made):
    (made.folder / "images" / "x").mkdir()
    made.add("x/cy_10.png", None)


def strange_name(made):
    made.add("whoever.png", None)


def of_no_image(made):
    made.annotate(99, [[1, 1, 2, 2, 3, 1]], 7)


def box_only(made):
    made.annotate(2, [], 7)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (change_size, r"cy_10\.png has 56 x 40 pixels, its annotations are for 57 x 40"),
        (change_colour, r"cy_10\.png is in colour"),
        (change_type, r"patient cy differ in size or bits: .*cy_10\.png .*uint16"),
        (cut_short, r"cy_10\.png is damaged or no image"),
        (no_image, r"cy_10\.png is damaged or no image"),
        (no_file, r"images lacks cy_10\.png"),
        (same_slice, r"gives cy_10\.png and x/cy_10\.png the same patient, exam and slice"),
        (strange_name, r"does not fit whoever\.png"),
        (of_no_image, r"annotation .* is of image 99, which .* lacks"),
        (box_only, r"annotation .* of bob_1\.png has no outline"),
    ],
)
def test_what_is_wrong_is_named_and_no_index_is_left(change, reason, labelled, tmp_path):
    change(labelled)
    with pytest.raises(ConfigurationError, match=reason):
        labelled.prepare(tmp_path / "out", pattern=PATTERN)
    assert not (tmp_path / "out" / "index.csv").exists()


def test_a_preparation_that_broke_off_is_done_again_by_the_same_command(labelled, tmp_path):
    sound = (tmp_path / "images" / "dee_2.png").read_bytes()
    (tmp_path / "images" / "dee_2.png").write_bytes(sound[:100])
    with pytest.raises(ConfigurationError, match=r"dee_2\.png is damaged"):
        labelled.prepare(tmp_path / "out", pattern=PATTERN)
    assert any((tmp_path / "out" / "images").iterdir())
    with pytest.raises(ConfigurationError, match=r"index\.csv is missing"):
        next(read_cases(tmp_path / "out", "train"))
    (tmp_path / "images" / "dee_2.png").write_bytes(sound)
    labelled.prepare(tmp_path / "out", pattern=PATTERN)
    assert len(cases_in(tmp_path / "out")) == 4
    with pytest.raises(ConfigurationError, match=r"index\.csv exists and is not overwritten"):
        labelled.prepare(tmp_path / "out", pattern=PATTERN)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "is no JSON file"),
        ("[]", "is no COCO file"),
        (
            '{"images": [{"id": 1}], "categories": [], "annotations": []}',
            r"images\.0\.file_name: Field",
        ),
        ('{"images": [], "categories": [], "annotations": []}', "lists no images"),
    ],
)
def test_a_file_that_is_no_coco_is_refused(text, reason, tmp_path):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(ConfigurationError, match=reason):
        prepare_coco(tmp_path / "a.json", tmp_path, tmp_path / "out", fractions=(1, 0, 0), seed=0)


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [("(", "is no regular expression"), ("(?P<slice>[0-9]+)", r"has no group \(\?P<patient>")],
)
def test_a_pattern_that_cannot_be_is_refused(pattern, reason, labelled, tmp_path):
    with pytest.raises(ConfigurationError, match=reason):
        labelled.prepare(tmp_path / "out", pattern=pattern)


def test_the_command_tells_what_it_made(labelled, tmp_path):
    arguments = ["prepare", "coco", str(labelled.json), "--images", str(tmp_path / "images")]
    arguments += ["--out", str(tmp_path / "out"), "--category", "tumour", "--patient", PATTERN]
    told = CliRunner().invoke(app, [*arguments, "--vertices", "centres", "--split", "0.5", "0.25", "0.25"])
    assert told.exit_code == 0, told.output
    with (tmp_path / "out" / "index.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for name in ("train", "val", "test"):
        patients = {row["patient"] for row in rows if row["split"] == name}
        with_tumour = {row["patient"] for row in rows if row["split"] == name and row["mask_px"] != "0"}
        line = next(line for line in told.output.splitlines() if line.startswith(name))
        assert line.split()[1:3] == [str(len(patients)), f"({len(with_tumour)})"]
    wrong = CliRunner().invoke(app, [*arguments, "--split", "0.5", "0.5", "0.5"])
    assert wrong.exit_code == 1
    assert "--split 0.5 0.5 0.5: give the shares" in wrong.output
