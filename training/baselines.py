"""The command ``baselines``: five classical classifiers of slices, on the same split and figures."""

from __future__ import annotations

import json
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

from dicom_node.series.normalisation import PercentileRule, normalise
from training.cases import Case, data_folder, read_cases
from training.figures import PatientAnswers, detector_figures, with_intervals
from training.report import baselines_markdown

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


def run_baselines(data: Path | None, split: str, out: Path) -> None:
    """Fit on the split ``train``, judge on ``split``; write ``baselines.json`` and ``baselines.md``."""
    source = data or data_folder() / "lgg_flair"
    training = [(features(case), case.has_tumour) for case in read_cases(source, "train")]
    x, y = np.concatenate([f for f, _ in training]), np.concatenate([t for _, t in training])
    judged = [(case.patient, features(case), case.has_tumour) for case in read_cases(source, split)]
    table = {}
    for name, classifier in classifiers().items():
        classifier.fit(x, y)
        patients = [
            PatientAnswers(patient, truth, classifier.predict_proba(values)[:, 1].astype(np.float32))
            for patient, values, truth in judged
        ]
        table[name] = with_intervals(patients, lambda drawn: detector_figures(drawn, THRESHOLD))
    out.mkdir(parents=True, exist_ok=True)
    (out / "baselines.json").write_text(json.dumps(table, indent=2) + "\n", encoding="utf-8")
    heading = f"Classical classifiers of slices on {source.resolve().name}, split {split}"
    (out / "baselines.md").write_text(baselines_markdown(table, heading), encoding="utf-8")
