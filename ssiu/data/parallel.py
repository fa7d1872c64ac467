"""Work on many images in threads: decoding, resizing, hashing and encoding all release the interpreter lock."""

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from ssiu.errors import SSIUError, first_names
from ssiu.progress import Progress

Item = TypeVar("Item")
Result = TypeVar("Result")

MAX_THREADS = 16  # each holds a decoded image or two


def in_parallel(work: Callable[[Item], Result], items: Sequence[Item], title: str) -> Iterator[Result]:
    """``map(work, items)`` in order, in threads, under a progress bar; only a few results wait at a time."""
    threads = min(os.cpu_count() or 1, MAX_THREADS)
    pool = ThreadPoolExecutor(threads)
    waiting: deque[Future[Result]] = deque()
    progress = Progress(total=len(items), desc=title, unit="images", leave=False)
    try:
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) > 2 * threads:
                yield waiting.popleft().result()
                progress.update()
        while waiting:
            yield waiting.popleft().result()
            progress.update()
    finally:
        progress.close()
        pool.shutdown(cancel_futures=True)


def raise_all(problems: Sequence[SSIUError]) -> None:
    """Raises the first problem, naming the files of the others; nothing without problems."""
    if problems:
        others = first_names(str(problem).partition(": ")[0] for problem in problems[1:])
        raise type(problems[0])(f"{problems[0]}" + (f" ({len(problems)} in all; also {others})" if others else ""))
