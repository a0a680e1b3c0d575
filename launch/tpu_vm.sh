#!/usr/bin/env bash
# Cloud TPU VMs: launch/tpu_vm.sh MODULE --distributed [FLAGS]
#
# Runs the same command on all workers of the TPU that TPU_NAME and ZONE name, in the
# folder CHECKOUT (seqjax) of each; JAX finds the workers by itself. The workdir must be
# on storage that all workers share.
set -euo pipefail

if [[ $# -lt 1 || -z ${TPU_NAME:-} || -z ${ZONE:-} ]]; then
  echo "usage: TPU_NAME=NAME ZONE=ZONE launch/tpu_vm.sh MODULE --distributed [FLAGS]" >&2
  exit 2
fi
printf -v command '%q ' "${PYTHON:-.venv/bin/python}" -m "$@"
printf -v folder '%q' "${CHECKOUT:-seqjax}"
exec gcloud compute tpus tpu-vm ssh "$TPU_NAME" --zone="$ZONE" --worker=all \
  --command="cd $folder && exec $command"
