"""Several images at a time: faster than all cores on one image, and a GPU need not wait for files."""

from collections.abc import Callable, Generator, Iterable
from functools import partial

import torch

from ssiu.device import free_memory
from ssiu.images.parallel import Item, Result, cores, in_order
from ssiu.inference.prepare import PreparedNetwork
from ssiu.inference.tiles import MARGIN, RAM_SHARE, Tile, pixels_at_once

SR_COPIES = 2  # of an SR image while it is encoded, at most


def images_at_once(network: PreparedNetwork, lr_pixels: Iterable[int], tile: Tile) -> int:
    """How many images of so many pixels ``network`` may upscale at once.

    On a CPU it is a core each, where several threads may run the network and memory is enough for the largest image.
    """
    lr_pixels = list(lr_pixels)
    if not lr_pixels or not network.reentrant or network.device.type != "cpu":
        return 1
    largest = max(lr_pixels)
    if tile and tile != "auto":
        largest = min(largest, (tile + 2 * MARGIN) ** 2)
    return max(1, min(torch.get_num_threads(), len(lr_pixels), pixels_at_once(network) // largest))


def files_at_once(network: PreparedNetwork, images: int, sr_bytes: Iterable[int]) -> int:
    """How many files of SR of so many bytes may be in work, read or written, while ``images`` of them are upscaled.

    On a CPU these alone: the cores are busy with them. A GPU does not wait for files, as far as memory is enough.
    """
    if network.device.type == "cpu":
        return images
    largest = SR_COPIES * max(sr_bytes, default=1)
    memory = int(RAM_SHARE * free_memory(torch.device("cpu")))
    return max(1, min(cores(), memory // largest))


def each(work: Callable[[Item], Result], items: Iterable[Item], at_once: int) -> Generator[Result, None, None]:
    """``map(work, items)`` in order, ``at_once`` of them at the same time, each with its share of torch's threads."""
    if at_once == 1:
        yield from map(work, items)
        return
    threads = torch.get_num_threads()
    try:
        share = partial(torch.set_num_threads, max(1, threads // at_once))
        yield from in_order(work, items, at_once, begin=share, abandon=True)
    finally:
        torch.set_num_threads(threads)  # else threads to come would have what those had
