"""A DICOM node that runs brain-tumour models on MR series. Research use only."""

import os

# ONNX Runtime, from 1.29, reports to its maker and keeps a device id, unless this is so as it is loaded
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__version__ = "0.1.0"
