#!/usr/bin/env bash
# The steps of a pipeline, for .github/workflows/ and for any other runner: docs/pipeline.md.
#
#   pipeline.sh lint                     check format, code, types, generated files, prose, scripts
#   pipeline.sh test [ARGUMENT...]       run pytest with these arguments; none: every tier
#   pipeline.sh preview STACK...         preview with the policies; texts in $PIPELINE_OUT
#   pipeline.sh deploy STACK             apply with the policies, and measure what runs
#   pipeline.sh drift STACK              compare what runs with what is declared
#   pipeline.sh loadtest STACK           run the load test; compare it with the last one that passed
#
# The project is the current folder. All steps but lint and test work on a copy of it.
# Exit codes: 0 success, 1 failed, 2 precondition failed and nothing changed, 3 applied but not
# healthy, 5 a threshold is not met or worse than the last run, 6 a threshold ended the run, 7 drift.
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
RUN=$ROOT/.ape/run
POLICY=$ROOT/policy
OUT=${PIPELINE_OUT:-$ROOT/.ape/pipeline}
ACTIONLINT=github.com/rhysd/actionlint/cmd/actionlint@v1.7.12
VALE_VERSION=v3.21.0
VALE=github.com/vale-cli/vale/v3/cmd/vale@$VALE_VERSION
RESULTS=$OUT/results
# What fails a load test beside its thresholds, if it is more than noise: see `ape-load compare`.
FAIL_ON=${PIPELINE_FAIL_ON:-http_req_duration.p95 > +10%}
FAILED=1 PRECONDITION_FAILED=2 NOT_HEALTHY=3 NOT_MET=5 DRIFT=7
# Pulumi's exit codes: the backend has no such stack; changes where none were expected.
NO_STACK=6 CHANGES=7
# A first session takes up to 90 s; a busy host takes longer.
HEALTHY_SECONDS=${PIPELINE_WELL_SECONDS:-180}
# GitHub accepts 65,536 characters in a comment; the stacks share them.
COMMENT_BYTES=60000

say() { printf '%s\n' "$*" >&2; }
precondition_failed() {
  say "Precondition failed; nothing was changed: $*"
  exit "$PRECONDITION_FAILED"
}

# Work on a copy of the project, so that no salt, secret or stand-in is written into the checkout.
enter_copy() {
  [ -f Pulumi.yaml ] || precondition_failed "there is no Pulumi.yaml in $PWD. Run this in the project's folder."
  local stack
  for stack in "$@"; do
    [ -f "Pulumi.$stack.yaml" ] || precondition_failed "there is no Pulumi.$stack.yaml in $PWD. Name a stack that has one."
  done
  WORK=$(mktemp -d)
  trap 'rm -rf "$WORK"' EXIT
  mkdir "$WORK/project"
  cp -a ./* "$WORK/project/"
  # The virtual environment that Pulumi.yaml names.
  mkdir "$WORK/project/.ape"
  ln -s "$ROOT/.ape/venv" "$WORK/project/.ape/venv"
  cd "$WORK/project"
}

# Require a state, and a way to decrypt the secrets of stack $1.
require_state() {
  [ -n "${PULUMI_BACKEND_URL:-}" ] || precondition_failed "PULUMI_BACKEND_URL is not set. Set it to \
the storage of the state: s3://BUCKET, gs://BUCKET, azblob://CONTAINER, file:///FOLDER or https://api.pulumi.com"
  case $PULUMI_BACKEND_URL in https://*) return ;; esac
  [ -n "${PULUMI_CONFIG_PASSPHRASE:-}${PULUMI_CONFIG_PASSPHRASE_FILE:-}" ] ||
    grep -q '^secretsprovider:' "Pulumi.$1.yaml" ||
    precondition_failed "PULUMI_CONFIG_PASSPHRASE is not set. The stack's secrets are encrypted with it; keep it."
}

# Encrypt the pipeline's secrets into the copy's config, without showing them on a command line.
set_secrets() {
  local name variable listed
  listed=$("$RUN" python -m ape_infra.automation.pipeline secrets)
  while read -r name variable; do
    [ -z "${!variable:-}" ] ||
      printf %s "${!variable}" | "$RUN" pulumi config set --stack "$1" --secret "ape:$name" >&2
  done <<<"$listed"
}

# The policy pack, with the exceptions of the stack: policy/STACK.json.
policies() {
  printf '%s\n' --policy-pack "$POLICY/__main__.py"
  [ ! -f "$POLICY/$1.json" ] || printf '%s\n' --policy-pack-config "$POLICY/$1.json"
}

# Set `arguments` to the policies of stack $1. The Bash of macOS has no `mapfile`.
set_arguments() {
  local line
  arguments=()
  while IFS= read -r line; do arguments+=("$line"); done < <(policies "$1")
}

preview_one() {
  local stack=$1 rc=$NO_STACK arguments
  if [ -n "${PULUMI_BACKEND_URL:-}" ]; then
    require_state "$stack"
    rc=0
    "$RUN" pulumi stack select "$stack" >&2 || rc=$?
  fi
  case $rc in
    0) set_secrets "$stack" ;;
    "$NO_STACK")
      say "No state of stack $stack is accessible: previewing a new stack, with stand-ins for its secrets."
      export PULUMI_BACKEND_URL=file://$WORK/state PULUMI_CONFIG_PASSPHRASE=stand-in-of-a-preview
      unset PULUMI_CONFIG_PASSPHRASE_FILE
      mkdir -p "$WORK/state"
      "$RUN" python -m ape_infra.automation.pipeline stand-ins "Pulumi.$stack.yaml"
      "$RUN" pulumi stack init "$stack" >&2
      ;;
    *) return "$FAILED" ;;
  esac
  set_arguments "$stack"
  "$RUN" pulumi preview --stack "$stack" --color never --suppress-progress "${arguments[@]}" 2>&1 |
    tee "$OUT/preview-$stack.txt"
}

# Write the previews as Markdown, for the pull request and the page of the run.
comment() {
  local stack summary share=$((COMMENT_BYTES / $#))
  for stack in "$@"; do
    summary=$(grep -A4 '^Resources:' "$OUT/preview-$stack.txt" | sed 1d | xargs || true)
    # shellcheck disable=SC2016
    printf '### Preview of `%s`\n\n<details><summary>%s</summary>\n\n~~~~\n' "$stack" "${summary:-failed}"
    if [ "$(wc -c <"$OUT/preview-$stack.txt")" -gt "$share" ]; then
      printf '(truncated to the end; the artifact has the whole text)\n'
      # The cut may have split the first line, even in the middle of a character.
      tail -c "$share" "$OUT/preview-$stack.txt" | sed 1d
    else
      cat "$OUT/preview-$stack.txt"
    fi
    printf '\n~~~~\n\n</details>\n\n'
  done
}

# go_tool PACKAGE@VERSION [FLAG...]: build a Go program into .ape/bin, once per version. Returns 1
# where Go is not installed.
go_tool() {
  local name=${1%@*} stamp
  name=${name##*/}
  stamp=$ROOT/.ape/stamps/$name
  [ ! -x "$ROOT/.ape/bin/$name" ] || [ "$(cat "$stamp" 2>/dev/null)" != "$1" ] || return 0
  command -v go >/dev/null || return 1
  say "lint: building $name with Go"
  GOBIN=$ROOT/.ape/bin go install -trimpath "${@:2}" "$1" || exit "$FAILED"
  printf %s "$1" >"$stamp"
}

# Check README, docs, comments, docstrings, messages and test names against docs/glossary.md.
lint_prose() {
  local vale=$ROOT/.ape/bin/vale rc=0
  # Vale needs cgo: it parses source code with tree-sitter.
  if ! command -v cc >/dev/null || ! CGO_ENABLED=1 go_tool "$VALE" \
    -ldflags "-X main.version=$VALE_VERSION -s -w"; then
    say "lint: prose was not checked: install Go and a C compiler to build vale $VALE_VERSION"
    return
  fi
  find . \( -path './.*' -o -path ./build \) -prune -o -name '*.py' -print0 -o -name '*.md' -print0 |
    xargs -0 "$vale" --no-global --output=line --minAlertLevel=error || rc=$FAILED
  "$RUN" python scripts/check_texts.py --vale "$vale" || rc=$FAILED
  return "$rc"
}

lint() {
  cd "$ROOT"
  "$RUN" ruff format --check .
  "$RUN" ruff check .
  "$RUN" mypy
  "$RUN" python -m ape_infra.automation.generate --check
  lint_prose
  if go_tool "$ACTIONLINT"; then
    "$RUN" actionlint
  else
    say "lint: the workflows were not checked: install Go to build actionlint"
  fi
  if command -v shellcheck >/dev/null; then
    shellcheck scripts/*.sh offline/*.sh
  else
    say "lint: the scripts were not checked: install shellcheck"
  fi
}

run_tests() {
  cd "$ROOT"
  "$RUN" pytest "$@"
}

preview() {
  local stack rc=0
  enter_copy "$@"
  mkdir -p "$OUT"
  rm -f "$OUT"/preview*
  for stack in "$@"; do
    # Not as a condition: there bash ignores a command that fails in the middle.
    set +e
    (
      set -e
      preview_one "$stack"
    )
    local one=$?
    set -e
    [ "$one" = 0 ] || rc=$one
    [ -f "$OUT/preview-$stack.txt" ] || echo "no preview, exit code $one" >"$OUT/preview-$stack.txt"
  done
  comment "$@" >"$OUT/preview.md"
  return "$rc"
}

deploy() {
  local stack=$1 arguments rc
  enter_copy "$stack"
  require_state "$stack"
  "$RUN" pulumi stack select --create "$stack" >&2
  set_secrets "$stack"
  set_arguments "$stack"
  "$RUN" pulumi up --stack "$stack" --yes --refresh --color never --suppress-progress "${arguments[@]}"
  local end=$((SECONDS + HEALTHY_SECONDS))
  until
    rc=0
    "$RUN" python -m ape_infra status --stack "$stack" || rc=$?
    [ "$rc" = 0 ]
  do
    [ "$SECONDS" -lt "$end" ] || return "$NOT_HEALTHY"
    sleep 5
  done
}

drift() {
  local stack=$1 rc=0
  enter_copy "$stack"
  require_state "$stack"
  "$RUN" pulumi stack select "$stack" >&2 || rc=$?
  [ "$rc" != "$NO_STACK" ] || precondition_failed "$PULUMI_BACKEND_URL has no stack $stack. Deploy it first."
  [ "$rc" = 0 ] || return "$FAILED"
  set_secrets "$stack"
  "$RUN" pulumi preview --stack "$stack" --refresh --expect-no-changes --color never --suppress-progress || rc=$?
  case $rc in
    0) say "No drift: stack $stack runs as declared." ;;
    "$CHANGES")
      say "Drift: stack $stack differs from what is declared, as shown above. Deploy it again to remove the drift."
      return "$DRIFT"
      ;;
    *) return "$FAILED" ;;
  esac
}

# Print the newest run of stack $1 that passed, if any.
last_passed() {
  "$RUN" python -m ape_infra results --json --results "$RESULTS" | "$RUN" python -c '
import json, sys
passed = [r["run"] for r in json.load(sys.stdin) if (r["stack"], r["state"]) == (sys.argv[1], "passed")]
print(passed[-1] if passed else "")' "$1"
}

# The results are added to $OUT/results, which a pipeline keeps from one run to the next.
loadtest() {
  local stack=$1 rc=0 compared=0 last run
  enter_copy "$stack"
  require_state "$stack"
  "$RUN" pulumi stack select --create "$stack" >&2
  set_secrets "$stack"
  mkdir -p "$RESULTS"
  rm -f "$OUT"/loadtest.md "$OUT"/junit.xml "$OUT"/comparison.html
  last=$(last_passed "$stack")
  "$RUN" python -m ape_infra run --stack "$stack" --results "$RESULTS" --json >"$OUT/summary.json" || rc=$?
  run=$("$RUN" python -c 'import json, sys; print(json.load(open(sys.argv[1]))["run"])' "$OUT/summary.json" 2>/dev/null) ||
    return "$((rc ? rc : FAILED))"
  cp "$RESULTS/$run/junit.xml" "$OUT/junit.xml"
  printf '### Load test of `%s`\n\n~~~~\n' "$stack" >"$OUT/loadtest.md"
  "$RUN" python -m ape_infra results "$run" --results "$RESULTS" | tee -a "$OUT/loadtest.md"
  if [ -n "$last" ]; then
    printf '~~~~\n\n### Compared with `%s`\n\n~~~~\n' "$last" >>"$OUT/loadtest.md"
    "$RUN" python -m ape_infra compare "$last" "$run" --results "$RESULTS" --fail-on "$FAIL_ON" \
      --output "$OUT/comparison.html" 2>&1 | tee -a "$OUT/loadtest.md" || compared=$?
    # Runs that are too short to be compared are not worse.
    [ "$rc" != 0 ] || [ "$compared" != "$NOT_MET" ] || rc=$NOT_MET
  fi
  echo '~~~~' >>"$OUT/loadtest.md"
  return "$rc"
}

command=${1:-}
[ $# = 0 ] || shift
case $command in
  lint) setup=(--no-docker --tests) ;;
  test) setup=(--tests) ;;
  preview)
    [ $# -gt 0 ] || precondition_failed "name the stacks to preview"
    setup=(--no-docker)
    ;;
  deploy | drift | loadtest)
    [ $# = 1 ] || precondition_failed "name the one stack to $command"
    setup=()
    ;;
  *) precondition_failed "name a step: lint, test, preview STACK..., deploy STACK, drift STACK or loadtest STACK" ;;
esac
"$ROOT/offline/setup.sh" ${setup[@]+"${setup[@]}"}
case $command in
  test) run_tests "$@" ;;
  *) "$command" "$@" ;;
esac
