"""Stopping on SIGTERM and SIGINT without losing a step."""

import os
import signal
from types import FrameType


class StopSignal:
    """While entered, the first SIGTERM or SIGINT is remembered in ``signum``; the second leaves the process at once.

    Files are only ever replaced whole, so leaving at once tears nothing.
    """

    def __init__(self) -> None:
        self.signum: int | None = None

    def __enter__(self) -> "StopSignal":
        self._before = {s: signal.signal(s, self._handle) for s in (signal.SIGTERM, signal.SIGINT)}
        return self

    def __exit__(self, *exception: object) -> None:
        for signum, handler in self._before.items():
            signal.signal(signum, handler)

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        if self.signum is not None:
            os.write(2, b"stopped at once; the last checkpoint is sound\n")
            os._exit(128 + signum)
        self.signum = signum

    @property
    def name(self) -> str:
        return signal.Signals(self.signum).name if self.signum else "another process"
