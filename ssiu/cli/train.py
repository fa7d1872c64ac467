"""Trains a super-resolution network from a YAML config.

ssiu train --config configs/SSUFSR_light_x2.yml                    (python train.py in a clone)
ssiu train --config configs/SSUFSR_light_x2.yml batch_size=16 log_name=small --resume auto
"""

import os
import sys
from collections.abc import Sequence

from ssiu.cli.console import command_parser
from ssiu.config.key_docs import FORMS, ListKeys
from ssiu.config.load import load_config, refuse_options_that_are_keys
from ssiu.device import keep_freed_memory
from ssiu.errors import BusyError
from ssiu.progress import log_to_console
from ssiu.training.trainer import Trainer


def main(argv: Sequence[str]) -> None:
    parser = command_parser("train", __doc__)
    parser.add_argument("--config", required=True, help="YAML file; --list-keys explains every key")
    parser.add_argument("--resume", default="none", metavar="none|auto|PATH", help="auto: continue or start this run")
    parser.add_argument("--list-keys", action=ListKeys, nargs="?", choices=FORMS, help="print every key of a config")
    parser.add_argument("--allow-changes", action="store_true", help="resume although settings or data changed")
    parser.add_argument(
        "overrides", nargs="*", metavar="key=value", help="settings that win over the file; --debug shows tracebacks"
    )
    refuse_options_that_are_keys(argv)
    args = parser.parse_intermixed_args(argv)
    log_to_console()
    keep_freed_memory()
    trainer = Trainer(load_config(args.config, args.overrides), args.resume, args.allow_changes)
    try:
        outcome = trainer.run()
    except BusyError as error:
        if trainer.processes.world == 1:
            raise
        print(f"error: {error}", file=sys.stderr, flush=True)
        sys.stdout.flush()
        os._exit(error.exit_code)  # threads that wait for the lost rank can hold up Python's own end for ever
    if trainer.processes.is_main:
        print(outcome)
