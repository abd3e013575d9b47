"""The command ``baselines``: five classical classifiers of slices, on the same split and figures."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier

from dicom_node.errors import ConfigurationError
from dicom_node.series.normalisation import PercentileRule, normalise
from training.cases import Case
from training.figures import PIXELS, VolumeAnswers
from training.report import baselines_markdown
from training.tables import detector_table
from training.volumes import Volume, folders_of, read_volumes

SIDE = 32  # pixels; a slice becomes 1024 numbers
THRESHOLD = 0.5


def classifiers() -> dict[str, Any]:
    """Return untrained scikit-learn classifiers by name."""
    return {
        "naive Bayes": GaussianNB(),
        "random forest": RandomForestClassifier(300, min_samples_leaf=2, random_state=0),
        "logistic regression": make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=2000)),
        "decision tree": DecisionTreeClassifier(max_depth=10, min_samples_leaf=5, random_state=0),
        "k nearest neighbours": make_pipeline(StandardScaler(), KNeighborsClassifier(7)),
    }


def features(case: Case) -> NDArray[np.float32]:
    """Give the normalised slices in ``SIDE`` x ``SIDE`` pixels, (slices, SIDE * SIDE)."""
    squares = [
        cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
        for image in normalise(case.voxels, PercentileRule())
    ]
    return np.stack(squares).reshape(len(squares), -1).astype(np.float32)


def _answers(volume: Volume, probability: NDArray[np.floating]) -> VolumeAnswers:
    return VolumeAnswers(
        name=volume.name,
        truth=volume.case.has_tumour,
        probability=probability.astype(np.float32),
        pixels=np.zeros((len(probability), len(PIXELS)), np.int64),
        data=volume.data,
        unit=volume.unit,
        disease=volume.disease,
        is_series=volume.is_series,
    )


def run_baselines(data: Sequence[Path] | None, split: str, out: Path) -> None:
    """Fit on the split ``train``, judge on ``split``; write ``baselines.json`` and ``baselines.md``.

    Raises
    ------
    ConfigurationError
        When the training slices all have tumour, or none has, or the data cannot be read.
    """
    folders = folders_of(data)
    names = [folder.resolve().name for folder in folders]
    training = [(features(v.case), v.case.has_tumour) for v in read_volumes(folders, "train")]
    x, y = np.concatenate([f for f, _ in training]), np.concatenate([t for _, t in training])
    if y.all() or not y.any():
        raise ConfigurationError(
            f"{' + '.join(names)}: classifiers need training slices with and without tumour; "
            "give a data set that has the other kind as well"
        )
    judged = [(volume, features(volume.case)) for volume in read_volumes(folders, split)]
    classified = {}
    for name, classifier in classifiers().items():
        classifier.fit(x, y)
        volumes = [_answers(volume, classifier.predict_proba(values)[:, 1]) for volume, values in judged]
        classified[name] = detector_table(volumes, THRESHOLD)
    table = {"data": names, "split": split, "classifiers": classified}
    out.mkdir(parents=True, exist_ok=True)
    text = json.dumps(table, indent=2, allow_nan=False)
    (out / "baselines.json").write_text(text + "\n", encoding="utf-8")
    (out / "baselines.md").write_text(baselines_markdown(table), encoding="utf-8")
