"""A process that receives, as a tortured node makes it: at a moment it dies, alone or with the node."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

from dicom_node.receive import process
from tests.torture.moments import arm, moment_named

WHEN = "TORTURE_WHEN"  # in the environment: mark, moment, number, time within, process id of the node


def main() -> None:
    mark, name, number, within_s, node = os.environ[WHEN].split("\n")
    moment = moment_named(name)
    victim = None if moment.alone else int(node)
    arm(moment, int(number), float(within_s), Path(mark), victim)
    process.main(socket.socket(fileno=int(sys.argv[1])))


if __name__ == "__main__":
    main()
