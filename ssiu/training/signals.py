"""Stopping on SIGTERM and SIGINT without losing a step."""

import os
import signal
import time
from collections.abc import Callable
from types import FrameType

SAME_REQUEST = 1.0  # seconds: `timeout`, torchrun and job schedulers deliver one request twice


class StopSignal:
    """While entered, the first SIGTERM or SIGINT is remembered in ``signum``; a second one leaves the process at once.

    What arrives within a second of the first belongs to it. Files are only ever replaced whole, so leaving at once
    tears nothing; it says ``what_is_left``.
    """

    def __init__(self, what_is_left: Callable[[], str]) -> None:
        self.what_is_left = what_is_left
        self.signum: int | None = None
        self._since = 0.0

    def __enter__(self) -> "StopSignal":
        self._before = {s: signal.signal(s, self._handle) for s in (signal.SIGTERM, signal.SIGINT)}
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
