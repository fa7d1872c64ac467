"""Several processes as one run: ``torchrun --nproc_per_node=N train.py ...`` sets the environment this reads."""

import os
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist

from ssiu.config import Config
from ssiu.device import select_device
from ssiu.errors import ConfigError

TIMEOUT = timedelta(seconds=60)


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

    def any(self, flag: bool) -> bool:
        """Whether any rank raised ``flag``."""
        if self.world == 1:
            return flag
        votes = torch.tensor(int(flag), device=self.device)
        dist.all_reduce(votes, op=dist.ReduceOp.MAX)
        return bool(votes)

    def mean(self, values: torch.Tensor) -> torch.Tensor:
        """The mean of ``values`` over the ranks."""
        if self.world > 1:
            dist.all_reduce(values)
            values = values / self.world
        return values

    def wait(self) -> None:
        """Returns when every rank has come here."""
        if self.world > 1:
            dist.barrier()

    def close(self) -> None:
        if self.world > 1 and dist.is_initialized():
            dist.destroy_process_group()


def join_processes(config: Config) -> Processes:
    """Joins torchrun's process group, or is a group of one; ConfigError (78) when batch_size does not divide."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        return Processes(0, 1, select_device(config))
    if config.batch_size % world:
        raise ConfigError(
            f"key 'batch_size': {config.batch_size} cannot be split over {world} processes; use a multiple"
        )
    device = select_device(config, int(os.environ["LOCAL_RANK"]))
    if device.type == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=TIMEOUT)
    return Processes(dist.get_rank(), world, device)
