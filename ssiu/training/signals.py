"""Stopping on SIGTERM, SIGINT and SIGHUP without losing a step."""

import os
import signal
import time
from collections.abc import Callable
from types import FrameType

SAME_REQUEST = 1.0  # seconds: `timeout`, torchrun and job schedulers deliver one request twice


class StopSignal:
    """While entered, the first SIGTERM, SIGINT or SIGHUP is remembered in ``signum``; a second one leaves at once.

    SIGHUP comes when a terminal is closed or an ssh session ends; where ``nohup`` has it ignored, it stays so.
    What arrives within a second of the first belongs to it. Files are only ever replaced whole, so leaving at once
    tears nothing; it says ``what_is_left``.
    """

    def __init__(self, what_is_left: Callable[[], str]) -> None:
        self.what_is_left = what_is_left
        self.signum: int | None = None
        self._since = 0.0

    def __enter__(self) -> "StopSignal":
        signals = [signal.SIGTERM, signal.SIGINT]
        if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # Windows has none
            signals.append(signal.SIGHUP)
        self._before = {signum: signal.signal(signum, self._handle) for signum in signals}
        return self

    def __exit__(self, *exception: object) -> None:
        for signum, handler in self._before.items():
            signal.signal(signum, handler)

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        if self.signum is None:
            self.signum, self._since = signum, time.monotonic()
        elif time.monotonic() - self._since > SAME_REQUEST:
            os.write(2, f"stopped at once; {self.what_is_left()}\n".encode())
            os._exit(128 + signum)
