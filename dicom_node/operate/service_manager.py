"""What systemd is told of a ``Type=notify`` service (sd_notify(3)); nothing where there is no systemd."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Mapping

import structlog

from dicom_node.operate.health import Report

_US = 1e6
_OFTEN = 3  # times within the watchdog's patience
_TRY_FOR_S = 2.0  # a datagram to a systemd that is busy

log = structlog.get_logger()


class ServiceManager:
    """Sends datagrams to the socket that systemd names.

    Parameters
    ----------
    environment : NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID are read
    """

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        self._address = environment.get("NOTIFY_SOCKET", "")
        microseconds = environment.get("WATCHDOG_USEC", "")
        is_for_us = environment.get("WATCHDOG_PID") in (None, str(os.getpid()))
        self.watchdog_s = int(microseconds) / _US if microseconds.isdecimal() and is_for_us else 0.0
        """Its patience; 0 without a watchdog."""

    def ready(self, status: str) -> None:
        """Say that the node listens, or that it has read its configuration again."""
        self._tell(f"READY=1\nSTATUS={status}")

    def reloading(self) -> None:
        """Say that the configuration is read again."""
        self._tell(f"RELOADING=1\nMONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def stopping(self) -> None:
        """Say that the node ends."""
        self._tell("STOPPING=1")

    def alive(self) -> None:
        """Calm the watchdog."""
        self._tell("WATCHDOG=1")

    def _tell(self, message: str) -> None:
        if not self._address:
            return
        # A leading @ stands for the zero byte of an abstract socket
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sending:
                sending.settimeout(_TRY_FOR_S)
                sending.sendto(message.encode(), address)
        except OSError as error:
            log.warning("service_manager_not_told", reason=error.strerror or type(error).__name__)


class Watchdog:
    """Calms systemd's watchdog as long as the process is healthy; then systemd restarts it.

    Parameters
    ----------
    health : looks anew each time
    """

    def __init__(self, manager: ServiceManager, health: Callable[[], Report]) -> None:
        self._manager, self._health = manager, health
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)

    def start(self) -> None:
        """Begin, if systemd asks for it."""
        if self._manager.watchdog_s:
            self._thread.start()

    def stop(self) -> None:
        """Go on to calm it without looking: threads end now, one by one, within ``stop_timeout_s``."""
        self._stopping.set()

    def _run(self) -> None:
        every_s = self._manager.watchdog_s / _OFTEN
        while True:
            report = self._health()
            if report.is_good or self._stopping.is_set():
                self._manager.alive()
            else:
                said = {name: why for name, why in report.checks.items() if why}
                log.error("unhealthy", checks=said, meaning="the service manager will restart this process")
            time.sleep(every_s)
