"""Work on many images in threads: decoding, resizing, hashing and encoding all release the interpreter lock."""

import ctypes
import os
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from ssiu.errors import SSIUError, first_names
from ssiu.progress import Progress

Item = TypeVar("Item")
Result = TypeVar("Result")

MAX_THREADS = 16  # each holds a decoded image or two


def cores() -> int:
    """How many threads such work gets."""
    return min(os.cpu_count() or 1, MAX_THREADS)


def in_parallel(work: Callable[[Item], Result], items: Sequence[Item], title: str) -> Iterator[Result]:
    """``map(work, items)`` in order, by all cores, under a progress bar."""
    with Progress(total=len(items), desc=title, unit="images", leave=False) as progress:
        for result in in_order(work, items, cores()):
            yield result
            progress.update()


def in_order(
    work: Callable[[Item], Result],
    items: Iterable[Item],
    threads: int,
    begin: Callable[[], object] | None = None,
    abandon: bool = False,
) -> Generator[Result, None, None]:
    """``map(work, items)`` in order, in ``threads`` that each ``begin``; only a few results wait at a time.

    Where it ends early, by an error or Ctrl-C, work that has begun is done first, or ends at its next line of Python if
    it may ``abandon`` that: a network may need a minute for its image.
    """
    busy: set[int] = set()

    def run(item: Item) -> Result:
        busy.add(threading.get_ident())
        try:
            return work(item)
        finally:
            busy.discard(threading.get_ident())

    pool = ThreadPoolExecutor(threads, initializer=begin)
    waiting: deque[Future[Result]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(run, item))
            if len(waiting) > 2 * threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        for thread in list(busy) if abandon else ():
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(KeyboardInterrupt))
        pool.shutdown()


def raise_all(problems: Sequence[SSIUError]) -> None:
    """Raises the first problem, naming the files of the others; nothing without problems."""
    if problems:
        others = first_names(str(problem).partition(": ")[0] for problem in problems[1:])
        raise type(problems[0])(f"{problems[0]}" + (f" ({len(problems)} in all; also {others})" if others else ""))
