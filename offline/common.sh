# Shared by the setup scripts: folders, versions, messages. Sourced, not run.
# shellcheck shell=bash disable=SC2034
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
APE=$ROOT/.ape
# Not the python3 of the virtual environment, which is created again here: a shell may have sourced
# .ape/env.
PATH=${PATH//"$APE/venv/bin:"/}
PULUMI_VERSION=3.259.0
PLUGIN_VERSION=5.2.0
mkdir -p "$APE/bin" "$APE/logs" "$APE/stamps" "$APE/cache"

say() { printf '%s\n' "$*" >&2; }
die() {
  say "setup: $*"
  exit 1
}

# step NAME COMMAND...: run with the output in a log, one line with the seconds, the log's tail on
# failure.
step() {
  local name=$1 log start=$SECONDS
  log=$APE/logs/${name//[^a-zA-Z0-9]/-}.log
  shift
  printf '%s ... ' "$name" >&2
  # Not as the condition of an `if`: bash ignores `set -e` there, and a command that failed in the
  # middle of a function would pass for success.
  local rc
  set +e
  (
    set -e
    "$@"
  ) >"$log" 2>&1 </dev/null
  rc=$?
  set -e
  if [ "$rc" = 0 ]; then
    say "$((SECONDS - start)) s"
  else
    say "failed"
    tail -n 25 "$log" >&2
    die "$name failed; the whole log is $log"
  fi
}

# fresh NAME FILE...: whether NAME was done with just these files; `done_with` notes it.
stamp() { cat "${@:2}" | sha256sum | cut -d' ' -f1; }
fresh() { [ "$(cat "$APE/stamps/$1" 2>/dev/null)" = "$(stamp "$@")" ]; }
done_with() { stamp "$@" >"$APE/stamps/$1"; }

is_root() { [ "$(id -u)" = 0 ]; }
