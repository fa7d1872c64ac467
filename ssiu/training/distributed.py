"""Several processes as one run: ``torchrun --nproc_per_node=N train.py ...`` sets the environment this reads."""

import contextlib
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist

from ssiu.config.schema import Config
from ssiu.device import select_device
from ssiu.errors import BusyError, ConfigError, first_line

# A rank that dies closes its connections, which the others notice at once. This is for one that hangs; it must outlast
# decoding the training images on one node and the rest of a validation.
TIMEOUT = timedelta(minutes=10)
BACKENDS = "cpu:gloo,cuda:nccl"  # gradients go from GPU to GPU, decisions from host to host


@dataclass(frozen=True)
class Processes:
    """This process's place: ``rank`` of ``world``, and the device it computes on."""

    rank: int
    world: int
    device: torch.device

    @property
    def is_main(self) -> bool:
        """Only this one writes files."""
        return self.rank == 0

    def largest(self, number: int) -> int:
        """The largest ``number`` of all ranks. It is agreed between the hosts, so no GPU is waited for."""
        if self.world == 1:
            return number
        numbers = torch.tensor(number)
        dist.all_reduce(numbers, op=dist.ReduceOp.MAX)
        return int(numbers)

    def mean(self, values: torch.Tensor) -> torch.Tensor:
        """The mean of ``values`` over the ranks."""
        if self.world > 1:
            dist.all_reduce(values)
            values = values / self.world
        return values

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Turns the loss of another rank into BusyError (75)."""
        try:
            yield
        except RuntimeError as error:
            if not isinstance(error, dist.DistError) and "gloo" not in str(error):
                raise
            raise BusyError(
                f"rank {self.rank} of {self.world} ends because another one died or does not answer; "
                "that one's last line says why: run the same command again with --resume auto"
            ) from error

    def abort(self) -> None:
        """Gives up what other ranks were to answer, before `close` after an error: NCCL would wait for it."""
        group = dist.group.WORLD if dist.is_initialized() else None
        if self.world > 1 and self.device.type == "cuda" and group is not None:
            group._get_backend(self.device).abort()

    def close(self) -> None:
        """Leaves the process group; the others notice."""
        if self.world > 1 and dist.is_initialized():
            dist.destroy_process_group()


def join_processes(config: Config) -> Processes:
    """Joins torchrun's process group, or is a group of one; only the first of a group logs more than warnings.

    Raises ConfigError (78) when batch_size or the GPUs of this node do not suffice for the processes, and BusyError
    (75) when the others do not come.
    """
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        return Processes(0, 1, select_device(config.device, config.gpu_ids))
    if config.batch_size % world:
        raise ConfigError(
            f"key 'batch_size': {config.batch_size} cannot be split over {world} processes; use a multiple"
        )
    try:
        rank, local_rank, local_world = (
            int(os.environ[f"{name}"]) for name in ("RANK", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
        )
    except KeyError as missing:
        raise ConfigError(f"WORLD_SIZE is {world} but {missing} is not set; start with torchrun") from None
    device = select_device(config.device, config.gpu_ids, local_rank)
    if device.type == "cuda" and local_world > torch.cuda.device_count():
        raise ConfigError(
            f"{local_world} processes cannot share {torch.cuda.device_count()} GPUs; use one process per GPU"
        )
    if rank:
        logging.getLogger("ssiu").setLevel(logging.WARNING)
    try:
        dist.init_process_group(BACKENDS if device.type == "cuda" else "gloo", timeout=TIMEOUT)
    except dist.DistError as error:
        raise BusyError(f"the {world} processes could not connect: {first_line(error):.200}") from None
    return Processes(rank, world, device)
