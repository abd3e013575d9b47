"""A DICOM node that runs brain-tumour models on MR series. Research use only."""

__version__ = "0.1.0"
