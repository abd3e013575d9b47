"""``python -m dicom_node``."""

from dicom_node.cli import app

app()
