#!/usr/bin/env bash
# Open MPI: launch/mpi.sh COUNT MODULE --distributed [FLAGS]
#
# JAX finds the other processes in the environment that mpirun sets; MPI itself carries
# nothing. Hosts and slots are mpirun's: MPIRUN_FLAGS="--hostfile hosts". SIGTERM to
# mpirun ends the processes without a save: send it to one of them instead.
set -euo pipefail

if [[ $# -lt 2 || ! $1 =~ ^[1-9][0-9]*$ ]]; then
  echo "usage: launch/mpi.sh COUNT MODULE --distributed [FLAGS]" >&2
  exit 2
fi
count=$1
shift
read -ra flags <<<"${MPIRUN_FLAGS:-}"
exec mpirun -np "$count" "${flags[@]}" -x PATH "${PYTHON:-.venv/bin/python}" -m "$@"
