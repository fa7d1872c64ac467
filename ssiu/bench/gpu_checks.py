"""What `ssiu benchmark gpu` measures, most important first; each takes a `Lab` and returns figures by name."""

import contextlib
import copy
import json
import signal
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ssiu.bench.gpu_lab import PHOTOGRAPHS, Check, Lab
from ssiu.bench.gpu_layouts import LAYOUTS, in_layout
from ssiu.bench.timing import synchronise
from ssiu.bench.train import training_step
from ssiu.bench.variants import literal_network
from ssiu.config.load import make_config
from ssiu.data.test_sets import load_test_sets
from ssiu.device import PRECISIONS, set_arithmetic
from ssiu.errors import StoppedError
from ssiu.evaluation.evaluate import evaluate
from ssiu.evaluation.metrics import score
from ssiu.images.io import read_rgb
from ssiu.inference.batch import upscale_files
from ssiu.inference.jobs import Job
from ssiu.inference.prepare import prepare
from ssiu.inference.upscaler import Upscaler
from ssiu.models.base import checkpoint_activations
from ssiu.training.losses import SRLoss, total_loss
from ssiu.training.trainer import Trainer
from ssiu.weights.checkpoint import load_checkpoint
from ssiu.weights.load import load_model

PSNR_SCALES = (2, 4)


def _error(found: Tensor, expected: Tensor) -> float:
    return (found.detach().double().cpu() - expected).abs().max().item()


@torch.no_grad()
def output_parity(lab: Lab) -> dict[str, Any]:
    """Largest difference from float64 on the CPU, of eager and of prepared networks; the third call is a graph."""
    lr = torch.rand(1, 3, 40, 56, generator=torch.Generator().manual_seed(1))
    model = lab.model(4).eval()
    expected = copy.deepcopy(model).cpu().double()(lr.double())
    lr = lr.to(lab.device)
    figures = {"eager": _error(model(lr), expected)}
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        prepared = prepare(model, dtype)
        outputs = [prepared(lr) for _ in range(3)]
        name = str(dtype).removeprefix("torch.")
        figures |= {name: _error(outputs[0], expected), f"{name}_graphed": _error(outputs[2], expected)}
        other = prepared(lr.flip(3))  # a graph must read what it is given
        figures[f"{name}_other_input"] = _error(other, copy.deepcopy(model).cpu().double()(lr.flip(3).cpu().double()))
    return figures


def gradient_parity(lab: Lab) -> dict[str, Any]:
    """Relative error of all gradients against float64 on the CPU, eager in every layout, and compiled."""
    noise = torch.Generator().manual_seed(1)
    lr, hr = (torch.rand(2, 3, side, side, generator=noise) for side in (32, 64))

    def gradients(network: nn.Module, lr: Tensor, hr: Tensor) -> Tensor:
        network.zero_grad()
        total_loss(SRLoss()(network(lr), hr)).backward()
        return torch.cat([p.grad.double().flatten().cpu() for p in network.parameters() if p.grad is not None])

    model = lab.model(2)
    expected = gradients(copy.deepcopy(model).cpu().double(), lr.double(), hr.double())
    lr, hr = lr.to(lab.device), hr.to(lab.device)
    figures = {}
    for layout in LAYOUTS:
        network = in_layout(copy.deepcopy(model), layout)
        for name, each in ((layout, network), (f"{layout}_compiled", lab.compiled(network))):
            figures[name] = ((gradients(each, lr, hr) - expected).norm() / expected.norm()).item()
    return figures


def psnr(lab: Lab, scale: int) -> dict[str, Any]:
    """PSNR with the shipped weights in every precision, and how scores on the device differ from the CPU's."""
    path, name = (lab.data_path, "Set5") if lab.data_path else (lab.photographs(scale), "photographs")
    config = make_config({"data_path": str(path), "scale": scale, "patch_size": 48 * scale, "eval_sets": [name]})
    sets = load_test_sets(config)
    model = load_model(scale, lab.device)
    figures = {}
    for precision in PRECISIONS:
        set_arithmetic(precision)
        found = evaluate(model, sets, precision=precision, protocols=("standard",))
        figures[precision] = found.mean(name).psnr
    _, lr, hr = sets[0][0]
    with torch.no_grad():
        sr = model(torch.from_numpy(lr).to(lab.device).permute(2, 0, 1)[None] / 255)[0]
    here, there = (score(image, hr, scale, "standard") for image in (sr, sr.cpu()))
    return figures | {"set": name, "score_psnr": abs(here.psnr - there.psnr), "score_ssim": abs(here.ssim - there.ssim)}


INFERENCE: dict[str, Callable[[Lab, nn.Module], Callable[[Tensor], Tensor]]] = {
    "literal": lambda lab, model: literal_network(model),
    "prepared": lambda lab, model: prepare(model),
    "prepared-bf16": lambda lab, model: prepare(model, torch.bfloat16),
    "eager": lambda lab, model: model,
    "prepared-fp16": lambda lab, model: prepare(model, torch.float16),
    "compiled": lambda lab, model: lab.compiled(model),
    "compiled-bf16-reduce-overhead": lambda lab, model: lab.compiled(model.bfloat16(), "reduce-overhead"),
}


@torch.no_grad()
def inference(lab: Lab, name: str, height: int, width: int) -> dict[str, Any]:
    """One variant on one size of LR at x4; 80x120 is Table II: 13.83 ms and 224 MB on the paper's GPU."""
    network = INFERENCE[name](lab, lab.model(4).eval())
    height, width = (16, 24) if lab.toy else (height, width)
    lr = torch.rand(1, 3, height, width, device=lab.device)
    figures = lab.timed(lambda: network(lr), 100 if height < 200 else 10)
    if "peak_mib" in figures:
        figures["bytes_per_lr_pixel"] = round(figures["peak_mib"] * 2**20 / (height * width))
    return figures


def folder(lab: Lab) -> dict[str, Any]:
    """A folder's files at x2, read and written while others are upscaled: seconds and difference from one by one."""
    hr = sorted((lab.photographs(2) / "photographs/HR").iterdir()) * (1 if lab.toy else 8)
    upscaler = Upscaler(lab.model(2).eval())
    names = ("together", "one by one")
    jobs = {name: [Job(path, lab.folder / name / f"{i}.png") for i, path in enumerate(hr)] for name in names}
    upscale_files(upscaler, jobs["together"][: len(PHOTOGRAPHS)], lab.folder, overwrite=True)  # a warm-up
    together = upscale_files(upscaler, jobs["together"], lab.folder, overwrite=True)
    alone = [upscale_files(upscaler, [job], lab.folder, overwrite=True) for job in jobs["one by one"]]
    images = ([read_rgb(job.target).astype(int) for job in each] for each in jobs.values())
    return {
        "seconds": round(together.seconds, 3),
        "one_by_one": round(sum(report.seconds for report in alone), 3),
        "levels": max(int(abs(a - b).max()) for a, b in zip(*images, strict=True)),
    }


@contextlib.contextmanager
def _inductor_layout() -> Iterator[None]:
    import torch._inductor.config as inductor  # slow to import, and only wanted here

    with inductor.patch(force_layout_optimization=True):
        yield


def training(lab: Lab, scale: int, options: str) -> dict[str, Any]:
    """A step at batch 40 of LR 64x64; ``options`` are words: a precision, literal, compiled, a layout and so on."""
    words = options.split()
    config = lab.config(scale)
    set_arithmetic(words[0])
    model = lab.model(scale)
    if "checkpointed" in words:
        checkpoint_activations(model)
    network: nn.Module = literal_network(model) if "literal" in words else model
    in_layout(network, next((word for word in words if word in LAYOUTS), "padded"))
    with contextlib.ExitStack() as stack:
        if "inductor-layout" in words:
            stack.enter_context(_inductor_layout())
        if "compiled" in words:
            network = lab.compiled(network, "reduce-overhead" if "reduce-overhead" in words else None)
        step = training_step(network, words[0], config, lab.device)
        figures: dict[str, Any] = lab.timed(step, 10)
        if "profiled" in words:
            figures["top"] = _profile(step, lab.device)
    return figures


def _profile(step: Callable[[], object], device: torch.device) -> list[str]:
    """The 15 operators that take the device longest: name, calls, ms."""
    activities = [torch.profiler.ProfilerActivity.CPU]
    activities += [torch.profiler.ProfilerActivity.CUDA] if device.type == "cuda" else []
    with torch.profiler.profile(activities=activities) as profiler:
        step()
        synchronise(device)
    time = "self_device_time_total" if device.type == "cuda" else "self_cpu_time_total"
    events = sorted(profiler.key_averages(), key=lambda event: -getattr(event, time))[:15]
    return [f"{event.key[:80]} x{event.count} {getattr(event, time) / 1000:.3f} ms" for event in events]


class _Stopping(Trainer):
    """Gets SIGTERM after ``stop_at`` steps."""

    stop_at = 0

    def train_step(self, micro_batches: list[tuple[Tensor, Tensor]]) -> None:
        super().train_step(micro_batches)
        if self.step == self.stop_at:
            signal.raise_signal(signal.SIGTERM)


def resume(lab: Lab) -> dict[str, Any]:
    """Whether a run that stops half-way ends in the same bits, with deterministic algorithms; and without, alike."""
    total = 4 if lab.toy else 40

    def end(name: str, deterministic: bool, stop_at: int = 0) -> dict[str, Tensor]:
        small = {} if lab.toy else {"batch_size": 8}
        config = lab.config(
            2,
            log_name=name,
            deterministic=deterministic,
            max_iterations=total,
            precision="bf16",
            ema_decay=0.9,
            **small,
        )
        if stop_at:
            first = _Stopping(config)
            first.stop_at = stop_at
            with contextlib.suppress(StoppedError):
                first.run()
            stopped = load_checkpoint(config.run_folder / "models/last.pt")["step"]
            assert stopped == stop_at, f"stopped at step {stopped}, not {stop_at}"
        Trainer(config, "auto").run()
        state = load_checkpoint(config.run_folder / "models/last.pt")
        return {**state["model"], **{f"ema.{key}": value for key, value in state["ema"].items()}}

    def equal(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
        return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)

    whole = end("whole", True)
    figures = {"stopped_at": total // 2, "deterministic_equal": equal(whole, end("parts", True, total // 2))}
    return figures | {"otherwise_equal": equal(end("free1", False), end("free2", False))}


def trainer_speed(lab: Lab, compile: bool) -> dict[str, Any]:
    """The real trainer's steps a second and the share of them that waits for data, at x2 in bf16."""
    steps = 4 if lab.toy else 150
    config = lab.config(
        2, log_name=f"speed{compile}", precision="bf16", compile=compile and not lab.toy,
        max_iterations=steps, log_every=steps // 2,
    )  # fmt: skip
    Trainer(config).run()
    lines = (config.run_folder / "metrics.jsonl").read_text().splitlines()
    last = [line for line in map(json.loads, lines) if line["kind"] == "train"][-1]
    return {key: last[key] for key in ("it_per_s", "data_wait", "peak_mib")}


def ddp(lab: Lab) -> dict[str, Any]:
    """A compiled network in a process group of one, NCCL's on a GPU."""
    dist.init_process_group(
        "nccl" if lab.device.type == "cuda" else "gloo", store=dist.HashStore(), rank=0, world_size=1
    )
    try:
        ids = [lab.device] if lab.device.type == "cuda" else None
        network = DistributedDataParallel(lab.compiled(lab.model(2)), device_ids=ids)
        return lab.timed(training_step(network, "bf16", lab.config(2), lab.device), 5)
    finally:
        dist.destroy_process_group()


def _inference(name: str, seconds: int, height: int = 80, width: int = 120) -> Check:
    measure = partial(inference, name=name, height=height, width=width)
    return Check(f"inference x4 {width}x{height} {name}", seconds, measure)


def _training(scale: int, options: str, seconds: int) -> Check:
    return Check(f"training x{scale} {options}", seconds, partial(training, scale=scale, options=options))


CHECKS = [
    Check("output parity", 15, output_parity),
    *(Check(f"PSNR x{scale}", 20, partial(psnr, scale=scale)) for scale in PSNR_SCALES),
    *(_inference(name, 10) for name in ("literal", "eager", "prepared", "prepared-bf16", "prepared-fp16")),
    _training(2, "fp32 literal", 10),
    _training(2, "tf32 literal", 10),
    _training(2, "fp32", 10),
    _training(2, "bf16 profiled", 15),
    _training(2, "bf16 compiled profiled", 75),
    _training(2, "bf16 compiled shifted profiled", 75),
    _training(2, "bf16 compiled planar", 75),
    _training(2, "bf16 compiled inductor-layout", 75),
    Check("resume", 60, resume),
    Check("gradient parity", 120, gradient_parity),
    Check("trainer eager", 30, partial(trainer_speed, compile=False)),
    Check("trainer compiled", 75, partial(trainer_speed, compile=True)),
    Check("DDP", 60, ddp),
    Check("folder", 30, folder),
    _training(2, "tf32", 10),
    _training(2, "fp16", 10),
    _training(2, "bf16 planar", 10),
    _training(2, "bf16 checkpointed", 10),
    _training(2, "tf32 compiled", 75),
    _training(2, "bf16 compiled reduce-overhead", 75),
    _training(4, "fp32 literal", 10),
    _training(4, "bf16", 10),
    _training(4, "bf16 compiled", 75),
    _inference("compiled", 75),
    _inference("compiled-bf16-reduce-overhead", 75),
    _inference("prepared", 15, 256, 256),
    _inference("prepared-bf16", 15, 256, 256),
    _inference("prepared", 20, 1024, 1024),
]
