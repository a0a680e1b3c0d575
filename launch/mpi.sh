#!/usr/bin/env bash
# Open MPI: launch/mpi.sh COUNT MODULE --distributed [FLAGS]
#
# JAX finds the other processes in the environment that mpirun sets; MPI itself carries
# nothing. Hosts and slots are mpirun's: MPIRUN_FLAGS="--hostfile hosts". SIGTERM to
# mpirun reaches all processes, which have a minute to save and to exit with 75.
set -euo pipefail

if [[ $# -lt 2 || ! $1 =~ ^[1-9][0-9]*$ ]]; then
  echo "usage: launch/mpi.sh COUNT MODULE --distributed [FLAGS]" >&2
  exit 2
fi
count=$1
shift
read -ra flags <<<"${MPIRUN_FLAGS:-}"
export OMPI_MCA_odls_base_sigkill_timeout=${OMPI_MCA_odls_base_sigkill_timeout:-60}
exec mpirun -np "$count" "${flags[@]}" -x PATH "${PYTHON:-.venv/bin/python}" -m "$@"
