#!/usr/bin/env bash
# Several processes on this machine: launch/local.sh COUNT MODULE --distributed [FLAGS]
#
# Sets where process 0 listens, how many there are and which one each is. The first that
# fails ends the others, and its exit code is this script's. SIGTERM and Ctrl-C go to all.
set -euo pipefail

if [[ $# -lt 2 || ! $1 =~ ^[1-9][0-9]*$ ]]; then
  echo "usage: launch/local.sh COUNT MODULE --distributed [FLAGS]" >&2
  exit 2
fi
count=$1
shift

# Seconds that processes have after one has failed: to save, or to see it themselves.
grace=${GRACE:-10}
python=${PYTHON:-.venv/bin/python}
cores=$(getconf _NPROCESSORS_ONLN)
export JAX_COORDINATOR_ADDRESS=${JAX_COORDINATOR_ADDRESS:-127.0.0.1:$((49152 + RANDOM % 16384))}
export SEQJAX_NUM_PROCESSES=$count
export JAX_NUM_CPU_DEVICES=${JAX_NUM_CPU_DEVICES:-$((cores > count ? cores / count : 1))}

pids=()
# shellcheck disable=SC2317  # the traps call it
pass_on() { kill "-$1" "${pids[@]}" 2>/dev/null || true; }
trap 'pass_on TERM' TERM
trap 'pass_on INT' INT
for ((id = 0; id < count; id++)); do
  # A session of its own: Ctrl-C reaches each process once, by us.
  SEQJAX_PROCESS_ID=$id setsid "$python" -m "$@" &
  pids+=($!)
done

code=0
left=$count
while ((left)); do
  status=0
  wait -n -p ended "${pids[@]}" || status=$?
  if [[ -z ${ended:-} ]]; then continue; fi  # a signal came, and has been passed on
  left=$((left - 1))
  rest=()
  for pid in "${pids[@]}"; do [[ $pid == "$ended" ]] || rest+=("$pid"); done
  pids=("${rest[@]}")
  if ((status && !code)); then
    code=$status
    if ((left)); then
      # SIGKILL, as a stopped process hears nothing else.
      (sleep "$grace" && kill -KILL "${pids[@]}") >/dev/null 2>&1 &
      killer=$!
    fi
  fi
done
if [[ -n ${killer:-} ]]; then kill "$killer" 2>/dev/null || true; fi
exit "$code"
