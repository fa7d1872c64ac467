"""A network on a GPU as a CUDA graph: one launch a call instead of five hundred.

A small image keeps a GPU busy for less time than its operators take to be launched one by one. A CUDA graph is a
recording of all of them for one shape, started as a whole.
"""

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Function = Callable[..., Tensor]
Memory = Any  # a `torch.cuda.graph_pool_handle`
Recorder = Callable[[Function, tuple[Tensor, ...], Memory], Function]

MAX_GRAPHS = 8  # shapes; the least recently used one goes
MAX_PIXELS = 2**17  # of LR; beyond them the operators take longer than their launches
WARM_UPS = 2  # calls before a recording, in which libraries choose algorithms and take their workspace


class Graphs:
    """``function`` of LR images, and of a tile's offset, recorded as a CUDA graph for every shape that comes again.

    A shape that comes once, as most images of a test set do, is not worth the recording. At most `MAX_GRAPHS` are kept,
    in memory they share; outputs are copied out of it.
    """

    def __init__(self, function: Function, record: Recorder | None = None):
        self.function = function
        self.record = record or record_cuda_graph
        self.graphs: OrderedDict[tuple, Function | None] = OrderedDict()  # None: seen once
        self.memory: Memory | None = None

    def __call__(self, x: Tensor, *tile_offset: Tensor) -> Tensor:
        if x.device.type != "cuda" or x.shape[0] * x.shape[2] * x.shape[3] > MAX_PIXELS:
            return self.function(x, *tile_offset)
        key = (*x.shape, x.dtype, x.device, len(tile_offset))
        if key not in self.graphs:
            self.graphs[key] = None
            if len(self.graphs) > MAX_GRAPHS:
                self.graphs.popitem(last=False)
            return self.function(x, *tile_offset)
        self.graphs.move_to_end(key)
        graph = self.graphs[key]
        if graph is None:
            self.memory = self.memory or torch.cuda.graph_pool_handle()
            graph = self.graphs[key] = self.record(self.function, (x, *tile_offset), self.memory)
        return graph(x, *tile_offset)


@torch.inference_mode()
def record_cuda_graph(function: Function, examples: tuple[Tensor, ...], memory: Memory) -> Function:
    """``function`` for tensors of the shapes of ``examples``, as one launch."""
    given = [example.clone() for example in examples]
    device = given[0].device
    stream = torch.cuda.Stream(device)
    stream.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(stream):
        for _ in range(WARM_UPS):
            function(*given)
    torch.cuda.current_stream(device).wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    # other threads score images on the same device meanwhile: their allocations are none of the recording's business
    with torch.cuda.graph(graph, pool=memory, stream=stream, capture_error_mode="thread_local"):
        out = function(*given)

    @torch.inference_mode()
    def replay(*tensors: Tensor) -> Tensor:
        for own, tensor in zip(given, tensors, strict=True):
            own.copy_(tensor)
        graph.replay()
        return out.clone()

    return replay
