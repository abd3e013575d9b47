"""Images with COCO annotations (https://cocodataset.org/#format-data) as a data set."""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as coco_mask
from pydantic import BaseModel, ConfigDict, ValidationError

from dicom_node.errors import ConfigurationError
from training.prepare.dataset import DatasetWriter, Grey, LabelledVolume
from training.prepare.report import Prepared
from training.prepare.split import check_fractions
from training.prepare.vertices import Vertices

_NAMED = 10  # of what is wrong, at most so many are listed
_ORIENTATION = 0x0112  # EXIF tag; 1 is upright


class _Item(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class _Image(_Item):
    id: int | str
    file_name: str
    width: int
    height: int


class _Category(_Item):
    id: int
    name: str


class _Annotation(_Item):
    id: int | str = "?"
    image_id: int | str
    category_id: int
    segmentation: Any = None


class _Coco(_Item):
    images: list[_Image]
    categories: list[_Category]
    annotations: list[_Annotation]


def prepare_coco(
    annotations: Path,
    images: Path,
    out: Path,
    *,
    fractions: Sequence[float],
    seed: int,
    categories: Sequence[str] = (),
    pattern: str | None = None,
    vertices: Vertices = Vertices.EDGES,
) -> Prepared:
    """Write a data set.

    Parameters
    ----------
    annotations : JSON
    images : folder to which its file names are relative
    categories : that are tumour; by default all
    pattern : found in each file name; its groups ``patient``, ``slice`` and ``exam`` (both optional)
        tell what the image belongs to. By default every image is a patient of its own.

    Raises
    ------
    ConfigurationError
        Names what is wrong, up to ten files or annotations of a kind.
    """
    check_fractions(fractions)
    coco = _read(annotations)
    chosen, remarks = _choose(coco.categories, categories)
    by_image: defaultdict[int | str, list[_Annotation]] = defaultdict(list)
    known = {image.id for image in coco.images}
    for annotation in coco.annotations:
        if annotation.image_id not in known:
            raise ConfigurationError(
                f"annotation {annotation.id} is of image {annotation.image_id}, which {annotations} lacks"
            )
        if annotation.category_id in chosen:
            by_image[annotation.image_id].append(annotation)
    volumes = _group(coco.images, pattern)
    _require_files(images, coco.images)
    writer = DatasetWriter(out)
    for (patient, exam), members in sorted(volumes.items()):
        labelled = [
            _labelled(images / image.file_name, image, by_image[image.id], vertices)
            for _, image in sorted(members.items())
        ]
        _require_alike(patient, [image for _, image in sorted(members.items())], [p for p, _ in labelled])
        writer.add(
            LabelledVolume(
                patient=patient,
                exam=exam,
                numbers=sorted(members),
                pixels=np.stack([pixels for pixels, _ in labelled]),
                mask=np.stack([mask for _, mask in labelled]),
            )
        )
    empty = sum(1 for image in coco.images if not by_image[image.id])
    if empty:
        remarks.append(f"{empty} images have no annotation: they are taken to show no tumour.")
    if pattern is None:
        remarks.append(
            "Without --patient every image is its own patient: slices of one person may lie in two splits, "
            "and each image is normalised alone."
        )
    return Prepared(writer.finish(fractions, seed), remarks=tuple(remarks))


def _read(path: Path) -> _Coco:
    try:
        coco = _Coco.model_validate(json.loads(path.read_bytes()))
    except FileNotFoundError:
        raise ConfigurationError(f"there is no {path}") from None
    except ValidationError as wrong:
        named = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in wrong.errors()]
        raise ConfigurationError(f"{path} is no COCO file: {_listed(named)}") from None
    except ValueError:  # no UTF-8, no JSON
        raise ConfigurationError(f"{path} is no JSON file") from None
    if not coco.images:
        raise ConfigurationError(f"{path} lists no images")
    for what, values in (
        ("id of an image", [image.id for image in coco.images]),
        ("file_name", [image.file_name for image in coco.images]),
    ):
        repeated = [str(value) for value, number in Counter(values).items() if number > 1]
        if repeated:
            raise ConfigurationError(f"{path} repeats the {what}: {_listed(repeated)}")
    return coco


def _choose(known: Sequence[_Category], wanted: Sequence[str]) -> tuple[set[int], list[str]]:
    """Ids of the categories that are tumour, and what to tell of the choice."""
    names = sorted({category.name for category in known})
    if not wanted:
        remark = [f"Every category is taken for tumour: {', '.join(names)}."] if len(names) > 1 else []
        return {category.id for category in known}, remark
    absent = [name for name in wanted if name not in names]
    if absent:
        raise ConfigurationError(f"there is no category {', '.join(absent)}; there are {', '.join(names)}")
    return {category.id for category in known if category.name in wanted}, []


def _group(images: Iterable[_Image], pattern: str | None) -> dict[tuple[str, str], dict[int, _Image]]:
    """Images by (patient, exam) and number of the slice."""
    if pattern is None:
        return {(image.file_name, ""): {0: image} for image in images}
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise ConfigurationError(f"--patient {pattern!r} is no regular expression: {error}") from None
    if "patient" not in compiled.groupindex:
        raise ConfigurationError(f"--patient {pattern!r} has no group (?P<patient>...)")
    groups: defaultdict[tuple[str, str], dict[int, _Image]] = defaultdict(dict)
    strangers = []
    for image in images:
        found = compiled.search(image.file_name)
        parts = found.groupdict() if found else {}
        number = parts.get("slice") or "0"
        if not parts.get("patient") or not re.fullmatch(r"[0-9]+", number):
            strangers.append(image.file_name)
            continue
        volume = groups[str(parts["patient"]), parts.get("exam") or ""]
        if (other := volume.get(int(number))) is not None:
            raise ConfigurationError(
                f"--patient {pattern!r} gives {other.file_name} and {image.file_name} the same patient, "
                "exam and slice: name what tells them apart with (?P<slice>[0-9]+) or (?P<exam>...)"
            )
        volume[int(number)] = image
    if strangers:
        raise ConfigurationError(f"--patient {pattern!r} does not fit {_listed(strangers)}")
    return groups


def _require_files(folder: Path, images: Iterable[_Image]) -> None:
    absent = [image.file_name for image in images if not (folder / image.file_name).is_file()]
    if absent:
        raise ConfigurationError(f"{folder} lacks {_listed(absent)}")


def _labelled(
    path: Path, image: _Image, annotations: Iterable[_Annotation], vertices: Vertices
) -> tuple[Grey, NDArray[np.bool_]]:
    pixels = read_grey(path)
    if pixels.shape != (image.height, image.width):
        raise ConfigurationError(
            f"{path} has {pixels.shape[1]} x {pixels.shape[0]} pixels, "
            f"its annotations are for {image.width} x {image.height}"
        )
    mask = np.zeros(pixels.shape, bool)
    for annotation in annotations:
        try:
            mask |= outline_mask(annotation.segmentation, image.height, image.width, vertices)
        except ValueError as error:
            raise ConfigurationError(f"annotation {annotation.id} of {image.file_name} {error}") from None
    return pixels, mask


def read_grey(path: Path) -> Grey:
    """Read an 8- or 16-bit image of one grey channel, or of three that are the same.

    Raises
    ------
    ConfigurationError
        When it is damaged, in colour, partly transparent, turned by a tag, or of other numbers.
    """
    try:
        with Image.open(path) as opened:
            turned = opened.getexif().get(_ORIENTATION, 1) != 1
            opened.load()
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        raise ConfigurationError(f"{path} is damaged or no image") from None
    if turned:
        raise ConfigurationError(f"{path} is to be turned by its EXIF tag: save it upright")
    image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if image is None:
        raise ConfigurationError(f"{path} is of a kind that OpenCV does not read: save it as PNG")
    if image.dtype not in (np.uint8, np.uint16):
        raise ConfigurationError(f"{path} holds {image.dtype}: save it with 8 or 16 bits")
    if image.ndim == 3:
        if image.shape[2] == 4 and image[:, :, 3].min() < np.iinfo(image.dtype).max:  # type: ignore[type-var]
            raise ConfigurationError(f"{path} is partly transparent: save it without alpha channel")
        if np.ptp(image[:, :, :3], axis=2).max() > 0:
            raise ConfigurationError(f"{path} is in colour: save it in grey")
        image = image[:, :, 0]
    return np.ascontiguousarray(image)


def outline_mask(segmentation: object, height: int, width: int, vertices: Vertices) -> NDArray[np.bool_]:
    """Make the mask of a COCO segmentation: polygons, or run lengths, compressed or not.

    Returns
    -------
    bool, (height, width); several polygons are united

    Raises
    ------
    ValueError
        Says what is wrong as the end of a sentence.
    """
    match segmentation:
        case {"size": [rows, columns], "counts": counts}:
            if [rows, columns] != [height, width]:
                raise ValueError(f"is for {columns} x {rows} pixels, its image has {width} x {height}")
            return _from_runs(counts, height, width)
        case [_, *_]:
            polygons = [_vertices(polygon, height, width) for polygon in segmentation]
            if vertices is Vertices.CENTRES:
                return _filled(polygons, height, width)
            runs = coco_mask.frPyObjects([p.ravel().tolist() for p in polygons], height, width)
            return np.asarray(coco_mask.decode(coco_mask.merge(runs)), bool)
    raise ValueError("has no outline (polygons or run lengths); a box alone is not enough")


def _vertices(polygon: object, height: int, width: int) -> NDArray[np.float64]:
    """(n, 2) as (column, row)"""
    try:
        points = np.array(polygon, np.float64)
    except (TypeError, ValueError):
        points = np.empty(0)
    if points.ndim != 1 or points.size < 6 or points.size % 2:
        raise ValueError("has a polygon that is not three or more pairs of numbers")
    points = points.reshape(-1, 2)
    beyond = 2 * max(height, width)
    if not np.isfinite(points).all() or np.abs(points).max() > beyond:
        raise ValueError("has a polygon far outside of its image")
    return points


def _filled(polygons: Sequence[NDArray[np.float64]], height: int, width: int) -> NDArray[np.bool_]:
    mask = np.zeros((height, width), np.uint8)
    for polygon in polygons:  # one at a time: together, what lies in two would be a hole
        cv2.fillPoly(mask, [np.rint(polygon).astype(np.int32)], 1)
    return mask.astype(bool)


def _from_runs(counts: object, height: int, width: int) -> NDArray[np.bool_]:
    """From run lengths down the columns, beginning with those outside; text is COCO's compression."""
    size = [height, width]
    damaged = ValueError("has run lengths that do not fill its image")
    if isinstance(counts, list):
        sound = all(isinstance(run, int) and run >= 0 for run in counts)
        if not sound or sum(counts) != height * width:
            raise damaged
        runs = coco_mask.frPyObjects({"size": size, "counts": counts}, height, width)
        return np.asarray(coco_mask.decode(runs), bool)
    if not isinstance(counts, str) or not counts.isascii():
        raise damaged
    try:
        mask = coco_mask.decode({"size": size, "counts": counts.encode()})
    except ValueError:
        raise damaged from None
    # the decoder takes runs that end too soon, and leaves the rest of the mask to chance
    if mask.max(initial=0) > 1 or coco_mask.encode(mask)["counts"] != counts.encode():
        raise damaged
    return np.asarray(mask, bool)


def _require_alike(patient: str, images: Sequence[_Image], pixels: Sequence[NDArray[Any]]) -> None:
    kinds = {(p.shape, p.dtype): image.file_name for image, p in zip(images, pixels, strict=True)}
    if len(kinds) > 1:
        told = ", ".join(
            f"{name} ({shape[1]} x {shape[0]}, {dtype})" for (shape, dtype), name in kinds.items()
        )
        raise ConfigurationError(
            f"the images of patient {patient} differ in size or bits: {told}; "
            "tell volumes apart with a group (?P<exam>...) of --patient"
        )


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
