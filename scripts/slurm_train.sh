#!/usr/bin/env bash
#SBATCH --job-name=ssiu
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=64
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --signal=TERM@120
# Training on several nodes; arguments go to train.py:  sbatch scripts/slurm_train.sh --config configs/SSUFSR_light_x2.yml
# Two minutes before the time is over SLURM sends SIGTERM and the run saves itself; the same command goes on with it. Given
# several times at once as sbatch --dependency=singleton ..., each waits for the one before; a finished run only says so.
# data_path and log_path must be on storage that all nodes see.
set -euo pipefail
: "${SLURM_JOB_NODELIST:?is not set: hand this script to SLURM with sbatch scripts/slurm_train.sh --config FILE}"
first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
export first OMP_NUM_THREADS=1
exec srun bash -c 'exec torchrun --nnodes="$SLURM_NNODES" --node_rank="$SLURM_NODEID" --nproc_per_node="${SLURM_GPUS_ON_NODE:-1}" \
    --master_addr="$first" --master_port=29500 train.py "$@" --resume auto' train "$@"
