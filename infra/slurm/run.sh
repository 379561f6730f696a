#!/usr/bin/env bash
# Makes a Ray cluster of a Slurm allocation and runs one dataset job on it; ends both together.
#
#   sbatch --nodes=4 --gpus-per-node=8 infra/slurm/run.sh --config run.yaml --output s3://bucket/clips
#
# All arguments go to `sencache-pipeline generate`. Submit from a folder that every node sees, with
# the environment of the nodes active. Flags of sbatch win over the lines below.
#SBATCH --job-name=sencache
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --exclusive
#SBATCH --time=24:00:00
#SBATCH --signal=B:USR1@180
#SBATCH --requeue
#SBATCH --no-kill
#SBATCH --open-mode=append
# --signal: this script hears of the time limit 180 s before it. --no-kill: a lost node costs its
# own work and not the job.
set -euo pipefail

READY_S="${READY_S:-300}" # longest wait for the head

mapfile -t nodes < <(scontrol show hostnames "${SLURM_JOB_NODELIST}")
head="${nodes[0]}"
port=$((20000 + SLURM_JOB_ID % 10000)) # jobs that share a node have ports of their own

# Ray listens on every interface: only who has the token may talk to it.
export RAY_AUTH_MODE=token
RAY_AUTH_TOKEN="$(od -An -N32 -tx1 /dev/urandom | tr -d ' \n')"
export RAY_AUTH_TOKEN
export RAY_USAGE_STATS_ENABLED=0

steps=()
driver=""
stopped=""
requeue=""

# shellcheck disable=SC2329  # the traps call it
# Ends the run, which writes its finished rows and its manifest; the cluster goes afterwards.
stop() {
    echo "$1: the run stops; the same command goes on" >&2
    stopped=yes
    [[ -z "${driver}" ]] || kill -TERM "${driver}" 2> /dev/null || true
}
trap 'requeue=yes; stop "the time limit is near"' USR1
trap 'stop "cancelled or preempted"' TERM INT

# shellcheck disable=SC2329
end_cluster() {
    kill -TERM "${steps[@]}" 2> /dev/null || true
    wait "${steps[@]}" 2> /dev/null || true
}
trap end_cluster EXIT

# One step a node, so that a node that is lost takes no other one with it. Call it in a subshell
# (`&` or `$()`), which becomes srun: so a signal to the subshell reaches it.
on_node() {
    local node="$1"
    shift
    exec srun --nodes=1 --ntasks=1 --nodelist="${node}" "$@"
}

# The first IPv4 address that other nodes reach: a node's own name may stand for its loopback.
ip=""
for flag in --ip-address --all-ip-addresses; do
    read -ra found <<< "$(on_node "${head}" hostname "${flag}")"
    for each in "${found[@]}"; do
        [[ -n "${ip}" || "${each}" == 127.* || "${each}" == *:* ]] || ip="${each}"
    done
done
if [[ -z "${ip}" ]]; then
    echo "error: ${head} has no IPv4 address that other nodes reach" >&2
    exit 1
fi
export RAY_ADDRESS="${ip}:${port}"
cpus=()
[[ -z "${SLURM_CPUS_ON_NODE:-}" ]] || cpus=(--num-cpus="${SLURM_CPUS_ON_NODE}")

on_node "${head}" ray start --head --block --node-ip-address="${ip}" --port="${port}" \
    --include-dashboard=false "${cpus[@]}" &
steps+=("$!")
waited=0
until [[ -n "${stopped}" ]] || ray status --address="${RAY_ADDRESS}" > /dev/null 2>&1; do
    if ! kill -0 "${steps[0]}" 2> /dev/null || ((waited >= READY_S)); then
        echo "error: Ray's head did not start on ${head} within ${READY_S} s; see above" >&2
        exit 1
    fi
    sleep 1
    ((++waited))
done

code=130
if [[ -z "${stopped}" ]]; then
    for node in "${nodes[@]:1}"; do
        on_node "${node}" ray start --block --address="${RAY_ADDRESS}" "${cpus[@]}" &
        steps+=("$!")
    done
    # The run takes up nodes as they join.
    sencache-pipeline generate "$@" &
    driver="$!"
    [[ -z "${stopped}" ]] || kill -TERM "${driver}" 2> /dev/null || true
    # A signal ends `wait` early; the driver is still writing its rows then.
    while kill -0 "${driver}" 2> /dev/null; do
        wait "${driver}" || true
    done
    code=0
    wait "${driver}" || code="$?"
fi
if [[ -n "${requeue}" ]]; then
    scontrol requeue "${SLURM_JOB_ID}" || echo "error: submit the same command again" >&2
fi
exit "${code}"
