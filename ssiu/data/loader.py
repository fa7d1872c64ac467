"""Worker processes that prepare micro-batches ahead of training.

Worker k of n makes the micro-batches start + k, start + k + n, ..., each into one of its own slots of shared memory,
and says so over its own pipe; the main process takes them in turn. Nothing is shared between workers, so one that
is killed cannot block another, and no signal handler is needed: the main process sees the death when it asks for
the next batch. A Dataset in torch's DataLoader does not hold the fault table of docs/reliability.md: it raises the
death of a worker from SIGCHLD wherever the main thread then is, stops workers by SIGTERM, which they must ignore, and
they notice the death of the main process only after 5 seconds, in which they hold the lock of its folder.
"""

import atexit
import signal
import weakref
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path

import torch
from torch import Tensor, multiprocessing

from ssiu.data.stream import BatchSource
from ssiu.errors import BusyError, SSIUError
from ssiu.files import require_space

SLOTS = 3  # micro-batches that a worker prepares ahead
STALLED_AFTER = 120  # seconds without the next batch: hung storage, not slow storage
GLANCE = 5  # waited for in pieces of this many seconds, so that a run that was suspended does not count as stalled
SHARED_MEMORY = Path("/dev/shm")
ADVICE = "continue the run with fewer 'threads' or more shared memory (/dev/shm; docker: --shm-size)"

_running: "weakref.WeakSet[Generator[tuple[Tensor, Tensor]]]" = weakref.WeakSet()


class PatchLoader:
    """Iterates over the micro-batches [start, stop) of a stream: (lr, hr) as the stream's ``batch`` returns them.

    With ``threads`` 0 they are made in this process. The workers live as long as the iteration. It raises
    BusyError (75) at the next batch after a worker died, when no batch arrives for two minutes, or when shared
    memory does not suffice; and what the stream raises.
    """

    def __init__(
        self, stream: BatchSource, start: int, stop: int, rank: int, world: int, threads: int, pin_memory: bool
    ):
        self.stream, self.micro_batches, self.rank, self.world = stream, range(start, stop), rank, world
        self.threads = min(threads, len(self.micro_batches))
        self.pin_memory = pin_memory

    def __len__(self) -> int:
        return len(self.micro_batches)

    def __iter__(self) -> Generator[tuple[Tensor, Tensor]]:
        batches = self._from_workers() if self.threads else self._from_here()
        _running.add(batches)
        return batches

    def _own(self, lr: Tensor, hr: Tensor) -> tuple[Tensor, Tensor]:
        """Copies out of a worker's slot, pinned where that was asked for."""
        return (lr.pin_memory(), hr.pin_memory()) if self.pin_memory else (lr.clone(), hr.clone())

    def _from_here(self) -> Generator[tuple[Tensor, Tensor]]:
        for m in self.micro_batches:
            lr, hr = self.stream.batch(m, self.rank, self.world)
            yield self._own(lr, hr) if self.pin_memory else (lr, hr)

    def _slots(self) -> list[list[tuple[Tensor, Tensor]]]:
        """Shared memory for every worker."""
        empty = self.stream.empty_batch(self.world)
        needed = self.threads * SLOTS * sum(tensor.nbytes for tensor in empty)
        if SHARED_MEMORY.exists():
            require_space(SHARED_MEMORY, needed, "what the loader workers share", ADVICE, BusyError)
        return [
            [tuple(torch.empty_like(tensor).share_memory_() for tensor in empty) for _ in range(SLOTS)]
            for _ in range(self.threads)
        ]

    def _from_workers(self) -> Generator[tuple[Tensor, Tensor]]:
        context = multiprocessing.get_context()
        slots = self._slots()
        workers, links = [], []
        try:
            with _group_signals_blocked():  # the workers inherit this
                for k in range(self.threads):
                    link, far_end = context.Pipe()
                    links.append(link)
                    arguments = (self.stream, self.micro_batches[k :: self.threads], self.rank, self.world, slots[k])
                    worker = context.Process(target=_work, args=(*arguments, far_end), daemon=True)
                    worker.start()
                    workers.append(worker)
                    far_end.close()
            for i in range(len(self.micro_batches)):
                turn, k = divmod(i, self.threads)
                _receive(links[k], workers[k], workers)
                batch = self._own(*slots[k][turn % SLOTS])
                with suppress(ConnectionError):  # it has delivered its last batch and is gone
                    links[k].send("next")
                yield batch
        finally:
            for worker in workers:
                worker.kill()  # they hold nothing that needs saving
                worker.join()
            for link in links:
                link.close()


@contextmanager
def _group_signals_blocked() -> Iterator[None]:
    """Ctrl-C, a scheduler's SIGTERM and a closed terminal's SIGHUP reach the whole process group; only the main process
    decides when to stop.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows: there the workers get Ctrl-C, too, and their death is said
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM, signal.SIGHUP})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _receive(link: Connection, worker: BaseProcess, workers: list) -> None:
    """Waits until ``worker``, at the other end, has finished its next batch; raises what went wrong there."""
    waited = 0
    _check(workers)
    while not link.poll():
        if waited >= STALLED_AFTER:
            raise BusyError(f"no training batch for {STALLED_AFTER} s, perhaps because storage hangs: {ADVICE}")
        running = [each.sentinel for each in workers if each.exitcode is None]
        if not wait([link, *running], GLANCE):
            waited += GLANCE
        _check(workers)
    try:
        error = link.recv()
    except (EOFError, ConnectionError):  # it is dying just now
        worker.join(STALLED_AFTER)
        _check(workers)
        raise
    if error is not None:
        raise error


def _check(workers: list) -> None:
    """Raises BusyError (75) when a worker did not end by itself."""
    for worker in workers:
        if worker.exitcode not in (None, 0):
            if worker.exitcode < 0:
                how = signal.Signals(-worker.exitcode).name
                raise BusyError(f"loader worker {worker.pid} died ({how}), perhaps for lack of memory: {ADVICE}")
            guard = "; a script that trains starts below `if __name__ == '__main__':`, else each worker trains, too"
            raise BusyError(
                f"loader worker {worker.pid} ended with exit code {worker.exitcode}, and its message is above"
                + (guard if multiprocessing.get_start_method() != "fork" else "")
            )


def _work(
    stream: BatchSource,
    micro_batches: range,
    rank: int,
    world: int,
    slots: list[tuple[Tensor, Tensor]],
    link: Connection,
) -> None:
    """A worker: fills its slots in turn, and waits when all hold batches that were not taken yet."""
    torch.set_num_threads(1)
    main_process = multiprocessing.parent_process()
    assert main_process is not None, "workers are children"
    with suppress(EOFError, ConnectionError):  # the main process is gone
        for turn, m in enumerate(micro_batches):
            if turn >= SLOTS:
                if link not in wait([link, main_process.sentinel]):
                    return
                link.recv()
            try:
                stream.fill(m, rank, world, *slots[turn % SLOTS])
            except SSIUError as error:
                link.send(error)
                return
            link.send(None)


@atexit.register
def _stop_workers() -> None:
    """Ends iterations that were left half-way, before Python's own clean-up waits for their workers."""
    for batches in list(_running):
        batches.close()
