#!/bin/bash
# jaxdiff on SLURM: edit, then `sbatch slurm.sh`. README.md says how the processes find each other.

# --- What the job asks for: one task per GPU ------------------------------------------------------

# The name in squeue and in the log's file name.
#SBATCH --job-name=jaxdiff

# Nodes, and on each as many tasks as GPUs. Each task is a process of jaxdiff, and takes the GPU
# that has its number on the node (SLURM_LOCALID). So let every task see all of the node's GPUs: ask
# for them with --gpus-per-node (or --gres=gpu:4), not with --gpus-per-task or --gpu-bind.
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=4
#SBATCH --gpus-per-node=4

# One task per node that drives all its GPUs works as well: --ntasks-per-node=1 above, and below
#     export JAX_LOCAL_DEVICE_IDS=0,1,2,3
# On nodes without GPUs: one task per node, no --gpus-per-node; the cores become JAX's devices.

# Cores of each task, for reading data and for the host's part of each step.
#SBATCH --cpus-per-task=8

# How long one go may take. A run may need many: see the end of this file.
#SBATCH --time=24:00:00

# SIGTERM to the tasks two minutes before the time is over (SLURM may be a minute early). All
# processes then save at the same step and end with 0. Give more where a save takes longer.
#SBATCH --signal=TERM@120

# SLURM may queue the job again after it took a node away, or a node broke down; the script then
# starts from its first line, and the run goes on from its last checkpoint.
#SBATCH --requeue

# The log goes on where the last go ended. %x is the job's name, %j its number.
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.log

# --- What it runs ---------------------------------------------------------------------------------

# The last step. It is given to jaxdiff below, and it is how this script knows that a run is done.
steps=400000

# The run's folder, on a disk that all nodes share.
workdir=$HOME/runs/my_run

# srun starts the tasks: without it there would be one process, on the first node.
# --kill-on-bad-exit=1: a process that dies would leave the others waiting for it; they end with it.
# --cpus-per-task: srun doesn't take it over from sbatch by itself.
# train.parallel=pmap (the default) keeps the whole model on each GPU. For one that doesn't fit:
# mesh, where each group of train.fsdp GPUs shares one copy of the state; a node's GPUs, which are
# wired best, are a good group. 0 makes one group of all.
# It is the same command each time: it starts a run, or goes on with it.
srun --kill-on-bad-exit=1 --cpus-per-task="$SLURM_CPUS_PER_TASK" \
    .venv/bin/jaxdiff train --config my/config.py --workdir "$workdir" \
    --config.train.steps="$steps" \
    --config.train.parallel=mesh --config.train.fsdp=4
code=$?

# --- Once more? -----------------------------------------------------------------------------------

# Done: the checkpoint of the last step is there. Orbax gives it this name when it is whole.
if [ -d "$workdir/checkpoints/$steps" ]; then
    exit 0
fi

# 2: what the user gave can't work; 3: training stopped itself. The log says why; another go would
# end the same way.
if [ "$code" -eq 2 ] || [ "$code" -eq 3 ]; then
    exit "$code"
fi

# The time was over (0: saved), or a process died: back into the queue, at most 20 times.
if [ "${SLURM_RESTART_COUNT:-0}" -lt 20 ]; then
    scontrol requeue "$SLURM_JOB_ID"
else
    echo "still not done after $SLURM_RESTART_COUNT restarts" >&2
    exit 1
fi
