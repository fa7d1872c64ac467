"""A network in one file that takes images of any height and width: ONNX for other programs, PT2 for plain PyTorch."""

import contextlib
import copy
import io
import logging
import re
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.fx.experimental._config as symbolic_shapes
from torch import Tensor
from torch.export import Dim, ExportedProgram

from ssiu.errors import BadInputError, ConfigError, is_out_of_memory, quoted
from ssiu.files import require_file, write_atomically
from ssiu.models.base import SRNetwork
from ssiu.models.layers import pad_to
from ssiu.weights.formats import target_file

TOLERANCE = 1e-4  # of values in [0, 1]
PRECISIONS = {"fp32": (torch.float32, TOLERANCE), "fp16": (torch.float16, 0.01), "bf16": (torch.bfloat16, 0.1)}
AXES = ("batch", "channels", "height", "width")  # of an ONNX file's input
LARGEST_PROBE = 64  # LR pixels
CHECKED_SIZES = ((48, 64), (37, 53), (1, 1))  # height, width
CHECKED_OFFSET = (32, 16, 500, 333)  # of a tile: top, left, height and width of its image
TRIAL_SECONDS = 10  # of a file of ONNX on a small image
BFLOAT16_OPSET = 22  # the first whose convolutions may be in bfloat16; None is the exporter's own
FUNCTIONS = 25  # their field's number in a file of ONNX
INSTALL = "pip install onnx onnxruntime onnxscript"


def smallest_side(network: SRNetwork) -> int:
    """The side in pixels from which on ``network`` takes square images: 1 for SSIU; a network of one's own may pool.

    Raises BadInputError (65) where it takes none of up to `LARGEST_PROBE` pixels.
    """
    like = next(network.parameters(), torch.zeros(0))
    for side in range(1, LARGEST_PROBE + 1):
        with contextlib.suppress(Exception), torch.no_grad():  # whatever a network says to an image that is too small
            sr = network(torch.zeros(1, 3, side, side, dtype=like.dtype, device=like.device))
            if sr.shape[2:] == (network.scale * side, network.scale * side):
                return side
    raise BadInputError(f"{network.architecture} takes no image of up to {LARGEST_PROBE}x{LARGEST_PROBE} pixels")


def export_program(network: SRNetwork, tiles: bool = False) -> ExportedProgram:
    """`torch.export` of ``network``: ``program.module()(lr)`` runs it, in the precision of its parameters.

    LR images are (B, 3, H, W) with any B >= 1 and any H, W from `smallest_side` on. With ``tiles`` it is
    ``program.module()(lr, tile_offset)``, with the int32 ``tile_offset`` (4,) of `SSIU.forward`.
    """
    network = copy.deepcopy(network).eval()
    least = smallest_side(network)
    dtype = next((parameter.dtype for parameter in network.parameters()), torch.float32)
    examples = {"lr": torch.rand(2, 3, 40 + least - 1, 56 + least - 1, dtype=dtype)}
    height, width = (Dim(name, min=least) for name in AXES[2:])
    sizes: dict[str, dict[int, Any] | None] = {"lr": {0: Dim(AXES[0], min=1), 2: height, 3: width}}
    if tiles:
        examples["tile_offset"], sizes["tile_offset"] = torch.tensor(CHECKED_OFFSET, dtype=torch.int32), None
    # without these two, sides that are multiples of the window or as small as one would be special cases
    with torch.no_grad(), symbolic_shapes.patch(backed_size_oblivious=True):  # type: ignore[attr-defined]  # made when it is imported
        return torch.export.export(
            network,
            tuple(examples.values()),
            dynamic_shapes=sizes,
            prefer_deferred_runtime_asserts_over_guards=True,
        )


def export_onnx(network: SRNetwork, path: Path, tiles: bool = False, precision: str = "fp32") -> float:
    """Writes ``network`` as ONNX: input ``lr`` (B, 3, H, W) in [0, 1], output ``sr`` (B, 3, sH, sW).

    Weights and both tensors are in ``precision``, a key of `PRECISIONS`; the axes are called `AXES`. The smallest side
    is written into the file's metadata. With ``tiles`` there is a second input ``tile_offset`` (4,) int32, as
    `SSIU.forward` takes it: top and left of the tile and the height and width of its image, in LR pixels; of a whole
    image (0, 0, H, W).
    Before anything is written, the exported network must give this one's output within `PRECISIONS` at `CHECKED_SIZES`;
    returns the largest difference. Raises ConfigError (78) without the packages and for ``tiles`` of a network that
    takes no offset, OutputError (73) as `target_file` does, BadInputError (65) where the two differ, SaveError (74).
    """
    target_file(path, ".onnx")
    if tiles and not network.takes_tile_offset:
        raise ConfigError(f"--tiles: {network.architecture} takes no tile offset; leave the option out")
    dtype, tolerance = PRECISIONS[precision]
    if dtype not in (torch.float32, *network.dtypes):
        raise ConfigError(f"--precision {precision}: {network.architecture} cannot be computed in {dtype}")
    _runtime()
    reduced = copy.deepcopy(network).to(dtype)
    with _silence():
        try:
            program = torch.onnx.export(
                export_program(reduced, tiles),
                input_names=["lr", "tile_offset"] if tiles else ["lr"],
                output_names=["sr"],
                opset_version=BFLOAT16_OPSET if dtype == torch.bfloat16 else None,
                dynamo=True,
                verbose=False,
            )
        except ImportError as error:
            raise ConfigError(f"export needs a package that is not installed ({error}): {INSTALL}") from None
    assert program is not None  # as of every export with dynamo
    least = smallest_side(network)
    facts = {"model": network.architecture, "scale": network.scale, "size_multiple": network.size_multiple}
    program.model.metadata_props.update({key: str(value) for key, value in (facts | {"smallest_side": least}).items()})
    model = program.model_proto
    _name_axes(model.graph, network.scale)
    content = model.SerializeToString()
    exported = _Bfloat16(content) if dtype == torch.bfloat16 else OnnxNetwork(content, str(path))
    return _write_checked(path, content, network, exported, tiles, least, tolerance)


def _name_axes(graph: Any, scale: int) -> None:
    """Calls the exporter's symbols, such as s40, by the names of the axes, and the output's sides by what they are."""
    dims = graph.input[0].type.tensor_type.shape.dim
    names = {dim.dim_param: name for dim, name in zip(dims, AXES, strict=True) if dim.dim_param}
    symbols = re.compile(r"\b(" + "|".join(map(re.escape, names)) + r")\b")
    for value in (*graph.input, *graph.value_info):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param:
                dim.dim_param = symbols.sub(lambda found: names[found[0]], dim.dim_param)
    for axis, dim in enumerate(graph.output[0].type.tensor_type.shape.dim):
        if dim.dim_param:
            dim.dim_param = AXES[axis] if axis == 0 else f"{scale}*{AXES[axis]}"


class _Bfloat16:
    """An ONNX file in bfloat16, which ONNX Runtime has no CPU kernels for: checked by onnx, and run by OpenVINO."""

    def __init__(self, content: bytes):
        try:
            import onnx
            import openvino
        except ImportError as error:
            raise ConfigError(f"bf16 needs a package that is not installed ({error}): {INSTALL} openvino") from None
        onnx.checker.check_model(content, full_check=True)
        self.package, self.network = openvino, openvino.compile_model(openvino.Core().read_model(content), "CPU")

    def __call__(self, lr: Tensor, *tile_offset: Tensor) -> Tensor:
        bits = lr.bfloat16().view(torch.int16).numpy()  # NumPy has no bfloat16
        inputs = [self.package.Tensor(bits, lr.shape, self.package.Type.bf16)]
        inputs += [self.package.Tensor(offset.numpy()) for offset in tile_offset]
        sr = self.network(inputs)[0]
        return torch.from_numpy(sr.view(np.int16).copy()).view(torch.bfloat16).float()


def export_pt2(network: SRNetwork, path: Path) -> float:
    """Writes `export_program` of ``network``: ``torch.export.load(path).module()(lr)`` runs it without this package.

    Checks, returns and raises as `export_onnx` does, but needs no package.
    """
    target_file(path, ".pt2")
    buffer = io.BytesIO()
    with _silence():
        torch.export.save(export_program(network), buffer)
        exported = torch.export.load(io.BytesIO(buffer.getvalue())).module()
    return _write_checked(path, buffer.getvalue(), network, exported, False, smallest_side(network), TOLERANCE)


def _write_checked(
    path: Path,
    content: bytes,
    network: SRNetwork,
    exported: Callable[..., Tensor],
    tiles: bool,
    least: int,
    tolerance: float,
) -> float:
    """Writes ``content`` if ``exported``, what it holds, gives the network's output; returns the difference.

    Images are of `CHECKED_SIZES`, but no side is below ``least``.
    """
    checks: list[tuple[tuple[int, int], tuple[Tensor, ...]]] = [(size, ()) for size in CHECKED_SIZES]
    if tiles:
        checks.append((CHECKED_SIZES[0], (torch.tensor(CHECKED_OFFSET, dtype=torch.int32),)))
    difference = 0.0
    for (height, width), tile_offset in checks:
        lr = torch.rand(1, 3, max(height, least), max(width, least), generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            difference = max(difference, (network(lr, *tile_offset) - exported(lr, *tile_offset)).abs().max().item())
    if not difference <= tolerance:
        raise BadInputError(f"{path} was not written: its output differs by {difference:.2g} from the network's")
    write_atomically(path, content)
    return difference


def offset_or_whole(tile_offset: Tensor | None, lr: Tensor) -> np.ndarray:
    """What a file for tiles is given as ``tile_offset``; without one ``lr`` is a whole image."""
    return np.array([0, 0, *lr.shape[2:]], np.int32) if tile_offset is None else tile_offset.numpy()


class OnnxNetwork(SRNetwork):
    """A file of `export_onnx`, or its bytes, run by ONNX Runtime; called like the network it was, on the CPU."""

    dtypes = ()

    def __init__(self, model: Path | bytes, name: str = "", device: torch.device | str = "cpu"):
        runtime = _runtime()
        name = name or str(model)
        if isinstance(model, Path):
            require_file(model, "a network")
        options = runtime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 4  # fatal; errors are raised too
        wanted = ["CUDAExecutionProvider"] if torch.device(device).type == "cuda" else []
        providers = [p for p in (*wanted, "CPUExecutionProvider") if p in runtime.get_available_providers()]
        complaint = f"{name} is damaged or was not made by `ssiu export onnx`"
        try:
            content = model.read_bytes() if isinstance(model, Path) else model
            if _defines_functions(content):
                raise ValueError
            session = runtime.InferenceSession(content, options, providers=providers)
            facts = session.get_modelmeta().custom_metadata_map
            scale, size_multiple = int(facts["scale"]), int(facts["size_multiple"])
            least = int(facts.get("smallest_side", 1))  # an older file takes any size
        except Exception as error:  # ONNX Runtime's own classes share no base; KeyError and ValueError are ours
            ours = isinstance(error, KeyError | ValueError)
            reason = "it lacks our metadata or defines functions" if ours else "it cannot be loaded"
            raise BadInputError(f"{complaint}: {reason}") from None
        if scale not in (2, 3, 4) or not 1 <= size_multiple <= 64 or not 1 <= least <= LARGEST_PROBE:
            raise BadInputError(f"{complaint}: scale {scale}, size multiple {size_multiple}, smallest side {least}")
        super().__init__(scale)
        self.session, self.size_multiple, self._complaint = session, size_multiple, complaint
        self._least = least
        self._type = np.float16 if session.get_inputs()[0].type == "tensor(float16)" else np.float32
        self._offset = next((each.name for each in session.get_inputs()[1:]), None)
        self.takes_tile_offset = self._offset is not None
        self._run_options = runtime.RunOptions()
        self._run_options.log_severity_level = 4
        late = threading.Timer(TRIAL_SECONDS, setattr, (self._run_options, "terminate", True))
        late.start()
        try:
            self(torch.zeros(1, 3, 5, 7))  # another scale or input, or an endless loop, shows before any image is read
        finally:
            late.cancel()

    def forward(self, lr: Tensor, tile_offset: Tensor | None = None) -> Tensor:
        height, width = lr.shape[2:]
        if min(height, width) < self._least:
            lr = pad_to(lr, max(height, self._least), max(width, self._least))
        images = lr.float().cpu().contiguous().numpy().astype(self._type)
        inputs = {self._offset: offset_or_whole(tile_offset, lr)} if self._offset else {}
        try:
            outputs = [self.session.run(None, {"lr": image[None], **inputs}, self._run_options)[0] for image in images]
        except Exception as error:
            if is_out_of_memory(error):
                raise torch.OutOfMemoryError(str(error)) from None
            late = f"it computes for more than {TRIAL_SECONDS} s on an image of 5x7 pixels"
            reason = late if self._run_options.terminate else quoted(error, 200)
            raise BadInputError(f"{self._complaint}: {reason}") from None
        expected = (1, 3, self.scale * lr.shape[2], self.scale * lr.shape[3])
        for sr in outputs:
            got = f"{sr.dtype} {sr.shape}" if isinstance(sr, np.ndarray) else f"a {type(sr).__name__}"
            if got != f"{self._type.__name__} {expected}":
                raise BadInputError(f"{self._complaint}: {got}, expected {self._type.__name__} {expected}")
        sr = torch.from_numpy(np.concatenate(outputs)).float()
        return sr[..., : self.scale * height, : self.scale * width]


def _defines_functions(content: bytes) -> bool:
    """Whether an ONNX file brings functions of its own. Ours have none; nested, they take forever to be unfolded."""
    from google.protobuf import empty_pb2, unknown_fields  # which ONNX Runtime brings

    fields = unknown_fields.UnknownFieldSet(empty_pb2.Empty.FromString(content))
    return any(field.field_number == FUNCTIONS for field in fields)


def _runtime() -> Any:
    try:
        import onnxruntime
    except ImportError:
        raise ConfigError(f"ONNX needs onnxruntime, which is not installed: {INSTALL}") from None
    return onnxruntime


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Hides the exporter's remarks on packages and operators that do not concern us."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
