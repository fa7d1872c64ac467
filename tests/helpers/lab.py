"""A tiny run that processes of their own repeat, each in a folder of its own."""

import socket
from pathlib import Path

from forked import Forked, ForkServer
from tiny_run import make_data, tiny_config


class Lab:
    """One data set in ``folder``, a config of ``settings`` beside it, and a server that starts processes."""

    def __init__(self, folder: Path, **settings: object):
        self.folder, self.settings = folder, settings
        self.server = ForkServer(folder)
        make_data(folder / "data")
        self.config = self.write("run")

    def write(self, name: str, **changes: object) -> Path:
        """A config of its own."""
        path = self.folder / f"{name}.yml"
        path.write_text(tiny_config(self.folder, **{**self.settings, **changes}).to_yaml())
        return path

    def arguments(self, name: str, **changes: object) -> list[str]:
        """Of a command that starts the run ``name`` or goes on with it."""
        changed = [f"{key}={value}" for key, value in changes.items()]
        return ["--config", str(self.config), "--resume", "auto", f"log_name={name}", *changed]

    def run_folder(self, name: str) -> Path:
        return self.folder / "logs" / name

    def last(self, name: str) -> Path:
        return self.run_folder(name) / "models/last.pt"

    def train(self, name: str, **changes: object) -> Forked:
        return self.server.train(*self.arguments(name, **changes))

    def start_ranks(self, world: int, function: str, *arguments: object) -> list[Forked]:
        """One process a rank, with the environment torchrun would give it."""
        group = {"WORLD_SIZE": world, "LOCAL_WORLD_SIZE": world, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()}
        return [self.server.start(function, *arguments, **group, RANK=rank, LOCAL_RANK=rank) for rank in range(world)]

    def train_ranks(self, world: int, name: str, **changes: object) -> list[Forked]:
        return self.start_ranks(world, "forked:command", "train", self.arguments(name, **changes))

    def wait_for_checkpoint(self, process: Forked, name: str) -> None:
        while not self.last(name).exists():
            assert not process.ended(0.01), process.output

    def close(self) -> None:
        self.server.close()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
