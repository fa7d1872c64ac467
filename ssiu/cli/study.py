"""Trains and scores every variant of a study with every seed, one run after the other, and prints a table.

ssiu study configs/studies/tables3_4.yml                      Tables III and IV; the same command continues after a stop
ssiu study configs/studies/tables3_4.yml --commands           one command per run, for several GPUs or machines
ssiu study my_study.yml max_iterations=2000 data_path=DATA    settings for all runs

A finished run is not repeated: seeds and variants may be added later. Runs are in log_path/NAME/VARIANT_seedN, the
table in log_path/NAME/table.html. docs/studies.md says what a study file holds.
"""

import logging
import os
import shlex
from collections.abc import Sequence

from ssiu.cli.check import raise_listed
from ssiu.cli.console import command_given, command_parser, terminal_width
from ssiu.config.load import refuse_options_that_are_keys
from ssiu.config.study import Study, StudyRun, load_study
from ssiu.data.test_sets import BenchmarkSet, load_test_sets
from ssiu.device import keep_freed_memory, select_device, set_arithmetic
from ssiu.errors import BusyError, ConfigError, DeviceMemoryError, NonFiniteError, SSIUError, counted, first_names
from ssiu.evaluation.evaluate import check_sets
from ssiu.models import check_trainable
from ssiu.progress import log_to_console
from ssiu.report.results import open_results, write_results
from ssiu.report.scored import score_network
from ssiu.report.study import check_folders, finished, results_folder, study_tables, write_tables
from ssiu.training.trainer import Trainer
from ssiu.weights.formats import read_weights
from ssiu.weights.load import load_configured

log = logging.getLogger("ssiu")

OF_ONE_RUN = (BusyError, DeviceMemoryError, NonFiniteError)  # what need not be so for the next one


def main(argv: Sequence[str]) -> None:
    parser = command_parser("study", __doc__)
    parser.add_argument("study", metavar="STUDY", help="a study file, or the name of one in configs/")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--only", metavar="N|NAME", help="make only this run, given by its number from 1 or its name")
    what.add_argument("--commands", action="store_true", help="print one command per run, and run nothing")
    what.add_argument("--table", action="store_true", help="print the table of the finished runs, and run nothing")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings of all runs")
    refuse_options_that_are_keys(argv)
    args = parser.parse_intermixed_args(argv)
    study = load_study(args.study, args.overrides)
    strays = check_folders(study)
    if args.commands:
        for run in study.runs:
            print(shlex.join(["python", "-m", "ssiu", "study", args.study, "--only", run.name, *args.overrides]))
        return
    log_to_console()
    if strays:
        log.info("not in this study, so not in its table: %s", first_names(strays))
    command = command_given("study", argv)
    problems: list[SSIUError] = []
    if args.only:
        run_all(study, [_named(study, args.only)], command, problems)
    elif not args.table:
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            raise ConfigError("several processes share one run: give --only NAME to torchrun's command")
        run_all(study, study.runs, command, problems)
    if not args.only:
        print_table(study, command)
    raise_listed(problems)


def run_all(study: Study, runs: Sequence[StudyRun], command: str, problems: list[SSIUError]) -> None:
    """Makes what is not finished of ``runs``; what ends one run but not the next is kept in ``problems``."""
    for run in runs:
        check_trainable(run.config)
    test_sets = load_test_sets(runs[0].config)  # all runs have the same
    check_sets(test_sets, saved=runs[0].config.save_image)
    keep_freed_memory()
    for run in runs:
        if finished(run):
            log.info("%s is finished", run.name)
            continue
        log.info("study %s, run %d of %d: %s", study.name, study.runs.index(run) + 1, len(study.runs), run.name)
        try:
            train_and_score(run, test_sets, command)
        except OF_ONE_RUN as error:
            problems.append(type(error)(f"{run.name}: {error}"))


def train_and_score(run: StudyRun, test_sets: Sequence[BenchmarkSet], command: str) -> None:
    """Trains ``run``, or goes on with it, and scores its last state as `test.py` does."""
    trainer = Trainer(run.config, resume="auto")
    log.info("%s", trainer.run())
    if not trainer.processes.is_main:
        return
    last = run.config.run_folder / "models" / "last.pt"
    config = run.config.model_copy(update={"pretrain": str(last), "init_trunk": None})
    device = select_device(config.device, config.gpu_ids)
    set_arithmetic(config.precision, config.deterministic)
    weights = read_weights(last)
    with open_results(results_folder(run), config, overwrite=True) as output:
        scored = score_network(config, load_configured(config, weights), weights, device, test_sets, output / "images")
        write_results(output, scored, scored.facts() | {"command": command})


def print_table(study: Study, command: str) -> None:
    """The table of what is finished, which is also written into the study's folder."""
    done = [result for run in study.runs if (result := finished(run))]
    if not done:
        print(f"no run of {study.name} is finished yet")
        return
    tables = study_tables(study, done)
    for table in tables:
        print(table.text(terminal_width()), end="\n\n")
    page = write_tables(study, done, tables, command)
    print(f"{counted(len(done), 'run')} of {len(study.runs)} finished; look at {page}")


def _named(study: Study, name: str) -> StudyRun:
    found = {run.name: run for run in study.runs} | {str(number): run for number, run in enumerate(study.runs, 1)}
    if name not in found:
        names = first_names(run.name for run in study.runs)
        raise ConfigError(f"--only {name}: expected a number from 1 to {len(study.runs)}, or one of {names}")
    return found[name]
