"""How the node names itself to other implementations (PS3.7 D.3.3.2), as SCP, as SCU and in files."""

from __future__ import annotations

from dicom_node import __version__

IMPLEMENTATION_CLASS_UID = "2.25.242175846409991003183301397226803548213"
IMPLEMENTATION_VERSION_NAME = f"DICOM_NODE_{__version__}"[:16]
