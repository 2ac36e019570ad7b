# Shared by the setup scripts: folders, versions, messages. Sourced, not run.
# shellcheck shell=bash disable=SC2034
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
APE=$ROOT/.ape
# Not the python3 of the virtual environment, which is created again here: a shell may have sourced
# .ape/env.
PATH=${PATH//"$APE/venv/bin:"/}
PULUMI_VERSION=3.259.0
PULUMI_RELEASES=https://github.com/pulumi/pulumi/releases/download
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

# within SECONDS COMMAND...: run, and end it after that time with 124. macOS has no `timeout`.
within() {
  python3 -c '
import subprocess, sys
try:
    sys.exit(subprocess.call(sys.argv[2:], timeout=float(sys.argv[1])))
except subprocess.TimeoutExpired:
    sys.exit(124)
except (OSError, KeyboardInterrupt):
    sys.exit(1)' "$@"
}

# sha256 [FILE...]: the digest alone; older versions of macOS have no `sha256sum`.
sha256() {
  if command -v sha256sum >/dev/null; then sha256sum "$@"; else shasum -a 256 "$@"; fi | cut -d' ' -f1
}

# fresh NAME FILE...: whether NAME was done with just these files; `done_with` notes it.
stamp() { cat "${@:2}" | sha256; }
fresh() { [ "$(cat "$APE/stamps/$1" 2>/dev/null)" = "$(stamp "$@")" ]; }
done_with() { stamp "$@" >"$APE/stamps/$1"; }

is_root() { [ "$(id -u)" = 0 ]; }
