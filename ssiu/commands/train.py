"""Trains a super-resolution network from a YAML config.

python train.py --config configs/SSUFSR_light_x2.yml
python train.py --config configs/SSUFSR_light_x2.yml batch_size=16 log_name=small --resume auto
"""

import argparse
from collections.abc import Sequence

from ssiu.config import load_config
from ssiu.errors import run_cli
from ssiu.runlog import log_to_console
from ssiu.trainer import Trainer


def main(argv: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", required=True, help="YAML file; ssiu/config.py documents every key")
    parser.add_argument("--resume", default="none", metavar="none|auto|PATH", help="auto: continue or start this run")
    parser.add_argument("--allow-changes", action="store_true", help="resume although settings or data changed")
    parser.add_argument(
        "overrides", nargs="*", metavar="key=value", help="settings that win over the file; --debug shows tracebacks"
    )
    args = parser.parse_intermixed_args(argv)
    log_to_console()
    trainer = Trainer(load_config(args.config, args.overrides), args.resume, args.allow_changes)
    outcome = trainer.run()
    if trainer.processes.is_main:
        print(outcome)


def entry_point() -> None:
    """``ssiu-train``."""
    run_cli(main)
