#!/usr/bin/env bash
# Starts a command again after a failure: launch/supervise.sh COMMAND [ARGUMENTS]
#
# Gives up after MAX_FAILURES (5) failures within WINDOW (3600) seconds. Exit codes 0
# (done), 2 (bad input), 3 (diverged) and 130 (Ctrl-C) are final. A SIGTERM or Ctrl-C
# that this script gets goes to the command, whose exit code it then has: 75 means that
# the command may be started again elsewhere.
set -euo pipefail

if [[ $# -lt 1 ]]; then
  echo "usage: launch/supervise.sh COMMAND [ARGUMENTS]" >&2
  exit 2
fi
max=${MAX_FAILURES:-5}
window=${WINDOW:-3600}
pause=${PAUSE:-1}

stopped=
child=
pass_on() {
  stopped=yes
  if [[ -n $child ]]; then kill "-$1" "$child" 2>/dev/null || true; fi
}
trap 'pass_on TERM' TERM
trap 'pass_on INT' INT

failures=()
while true; do
  setsid "$@" &  # a session of its own: Ctrl-C reaches it once, by us
  child=$!
  if [[ -n $stopped ]]; then kill -TERM "$child" 2>/dev/null || true; fi
  while true; do
    status=0
    wait "$child" || status=$?
    kill -0 "$child" 2>/dev/null || break  # else a signal interrupted the waiting
  done
  child=
  case $status in 0 | 2 | 3 | 130) exit "$status" ;; esac
  if [[ -n $stopped ]]; then exit "$status"; fi

  now=$SECONDS
  recent=("$now")
  for then in "${failures[@]}"; do
    if ((now - then < window)); then recent+=("$then"); fi
  done
  failures=("${recent[@]}")
  if ((${#failures[@]} >= max)); then
    echo "supervise: exit code $status; ${#failures[@]} failures within $window s, giving up" >&2
    exit "$status"
  fi
  echo "supervise: exit code $status; starting again (failure ${#failures[@]} of $max)" >&2
  sleep "$pause" &
  wait $! || true
  if [[ -n $stopped ]]; then exit "$status"; fi
done
