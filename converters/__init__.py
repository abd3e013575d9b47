"""From somebody's trained networks to a bundle that the node loads; imported by nothing in the node."""

import dicom_node  # noqa: F401 - before ONNX Runtime is loaded, which it keeps from reporting to its maker
