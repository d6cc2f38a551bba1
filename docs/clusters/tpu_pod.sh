#!/bin/bash
# jaxdiff on a Cloud TPU pod slice: edit, then run it on your own machine (or a small one that stays
# up) in a checkout of jaxdiff: `nohup bash docs/clusters/tpu_pod.sh > pod.log 2>&1 &`.
# It needs gcloud, logged in, with a project; README.md says how the processes find each other.

set -u  # a variable that was forgotten is an error

# --- What to edit ---------------------------------------------------------------------------------

name=jaxdiff                # the slice's name
zone=us-central2-b          # where it is
type=v4-32                  # its kind and size: 4 hosts of 4 chips
version=tpu-ubuntu2204-base # the hosts' image
steps=400000                # the last step: how this script knows that a run is done

# The run's folder, in a bucket that the hosts may write to, best in the same region.
workdir=gs://my-bucket/runs/my_run

# What every host runs; the same command starts a run and goes on with it. On a TPU each host is one
# process, which drives all its chips.
# train.parallel=mesh with train.fsdp=16: all 16 chips share one copy of the parameters, of their
# average and of the optimiser's state, a sixteenth on each. A smaller group, such as 4, keeps that
# traffic between fewer chips, where the state still fits.
# The data must be readable on each host: on a disk of the image, in a bucket, or inside a package.
train="venv/bin/jaxdiff train --config my/config.py --workdir $workdir \
    --config.train.steps=$steps --config.train.parallel=mesh --config.train.fsdp=16"

# --- The parts ------------------------------------------------------------------------------------

tpu() { gcloud compute tpus tpu-vm "$@" --zone="$zone"; }

# Runs a command on all hosts at once; fails where one of them does.
everywhere() { tpu ssh "$name" --worker=all --command="$1"; }

# READY, CREATING, PREEMPTED …; nothing where there is no such slice.
state() { tpu describe "$name" --format='value(state)' 2> /dev/null; }

# In a bucket Orbax writes this file when a checkpoint is whole.
finished() {
    gcloud storage ls "$workdir/checkpoints/$steps/commit_success.txt" > /dev/null 2>&1
}

# A new slice with this checkout and JAX for TPUs on each host. --spot: cheaper, and may be taken
# away at any moment; leave it out for one that stays.
create() {
    tpu create "$name" --accelerator-type="$type" --version="$version" --spot &&
        tpu scp --recurse . "$name:jaxdiff" --worker=all &&
        everywhere "sudo apt-get install -y python3-venv && python3 -m venv venv &&
            venv/bin/pip install 'jax[tpu]' './jaxdiff[gcs]'"
}

# Trains until it ends. A connection that broke may have left processes behind, which hold the
# chips: they get SIGTERM, save, and are waited for.
go_on() {
    everywhere "pkill -x jaxdiff; while pgrep -x jaxdiff > /dev/null; do sleep 1; done
        cd jaxdiff && ../$train"
}

# --- Until it is done -----------------------------------------------------------------------------

# The exit code of many hosts tells little, so the bucket is asked whether the run is done. A
# preempted host gets SIGTERM: all save at the same step and end with 0, and so the loop just goes
# on. What fails five times in a row within ten minutes has a reason that another try can't help:
# the log says which.
failures=0
until finished; do
    case "$(state)" in
        READY) ;;
        CREATING | STARTING | RESTARTING | REPAIRING)
            sleep 60
            continue
            ;;
        '')
            create || sleep 300 # no capacity now, perhaps
            continue
            ;;
        *) # PREEMPTED, TERMINATED: such a slice can't be started again, only made anew
            tpu delete "$name" --quiet
            continue
            ;;
    esac
    begun=$SECONDS
    go_on
    if [ $((SECONDS - begun)) -lt 600 ]; then failures=$((failures + 1)); else failures=0; fi
    if [ "$failures" -ge 5 ] && ! finished; then
        echo "failed $failures times in a row; the slice $name still runs" >&2
        exit 1
    fi
done

# A slice that isn't deleted goes on costing money.
tpu delete "$name" --quiet
