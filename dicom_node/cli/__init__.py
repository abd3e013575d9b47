"""The commands, a few lines each: what they do is done elsewhere."""

# The order of the help
# isort: off
from dicom_node.cli import work, operator, installation, accounts
# isort: on

from dicom_node.cli.shell import app

__all__ = ["accounts", "app", "installation", "operator", "work"]
