#!/usr/bin/env bash
#SBATCH --job-name=ssiu-study
#SBATCH --ntasks=1
#SBATCH --gpus=1
#SBATCH --cpus-per-task=9
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --signal=TERM@120
# A study as a job array, a run a job, on a GPU each; what follows the script goes to ssiu study:
#   sbatch --array=1-$(python -m ssiu study STUDY.yml --commands | wc -l) scripts/slurm_study.sh STUDY.yml
# Two minutes before the time is over SLURM sends SIGTERM and the run saves itself; the same command goes on with what is
# not finished. Then: python -m ssiu study STUDY.yml --table
# data_path and log_path must be on storage that all nodes see.
set -euo pipefail
: "${SLURM_ARRAY_TASK_ID:?is not set: hand this script to SLURM with sbatch --array=1-N scripts/slurm_study.sh STUDY.yml}"
exec srun python -m ssiu study "$@" --only "$SLURM_ARRAY_TASK_ID"
