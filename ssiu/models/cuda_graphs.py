"""Networks ready for inference on a GPU: weights cast once, and one launch a call instead of five hundred.

A small image keeps a GPU busy for less time than its operators take to be launched one by one. A CUDA graph is a
recording of all of them for one shape, started as a whole.
"""

import copy
from collections import OrderedDict
from collections.abc import Callable

import torch
from torch import Tensor, nn

from ssiu.models.esam import ESAM

Function = Callable[..., Tensor]
Recorder = Callable[[Function, tuple[Tensor, ...], object], Function]

MAX_GRAPHS = 8  # shapes; the least recently used one goes
MAX_PIXELS = 2**17  # of LR; beyond them the operators take longer than their launches
WARM_UPS = 2  # calls before a recording, in which libraries choose algorithms and take their workspace


def prepare_on_gpu(network: nn.Module, dtype: torch.dtype) -> Function:
    """A float32 function like ``network`` in eval mode with its weights as they are now, computed in ``dtype``."""
    network = copy.deepcopy(network).eval().requires_grad_(False).to(dtype)
    for module in network.modules():
        if isinstance(module, ESAM):
            module.fix_position()

    @torch.inference_mode()
    def super_resolve(lr: Tensor, *tile_offset: Tensor) -> Tensor:
        with torch.autocast(lr.device.type, enabled=False):
            return network(lr, *tile_offset).float()

    graphs = Graphs(super_resolve)
    graphs.takes_tile_offset = getattr(network, "takes_tile_offset", False)
    return graphs


class Graphs:
    """``function`` of LR images, and of a tile's offset, recorded as a CUDA graph for every shape that comes again.

    A shape that comes once, as most images of a test set do, is not worth the recording. At most `MAX_GRAPHS` are kept,
    in memory they share; outputs are copied out of it.
    """

    def __init__(self, function: Function, record: Recorder | None = None):
        self.function = function
        self.record = record or record_cuda_graph
        self.graphs: OrderedDict[tuple, Function | None] = OrderedDict()  # None: seen once
        self.memory: object = None

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
def record_cuda_graph(function: Function, examples: tuple[Tensor, ...], memory: object) -> Function:
    """``function`` for tensors of the shapes of ``examples``, as one launch; ``memory``: a `graph_pool_handle`."""
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
