#!/usr/bin/env bash
# The pipeline's steps, the same on a runner of .github/workflows/ and here: docs/pipeline.md.
#
#   pipeline.sh lint                     format, lint, types; the workflows and scripts where tools are
#   pipeline.sh test [ARGUMENT...]       pytest with these arguments; none: every tier
#   pipeline.sh preview STACK...         previews, judged by the policies; texts in $PIPELINE_OUT
#   pipeline.sh deploy STACK             apply, judged by the policies, and measure what runs
#   pipeline.sh drift STACK              whether what runs is what is declared
#
# The project is the current folder. It is copied for the run, so its files stay as they are.
# Exit codes: 0 well, 1 failed, 2 refused and nothing changed, 3 applied but not healthy, 7 drift.
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
RUN=$ROOT/.ape/run
POLICY=$ROOT/policy
OUT=${PIPELINE_OUT:-$ROOT/.ape/pipeline}
ACTIONLINT=v1.7.12
FAILED=1 REFUSED=2 UNWELL=3 DRIFT=7
# Pulumi's own: no stack of that name in the backend, and changes where none were expected.
NO_STACK=6 CHANGES=7
# A first session takes up to 90 s (ape_infra/cli.py); a busy host is given more.
WELL_SECONDS=${PIPELINE_WELL_SECONDS:-180}
# GitHub takes 65,536 characters in a comment; the stacks share them.
COMMENT_BYTES=60000

say() { printf '%s\n' "$*" >&2; }
refuse() {
  say "Refused, nothing was changed: $*"
  exit "$REFUSED"
}

# Its own copy of the project, so that no salt, secret or stand-in is written into the checkout.
enter_copy() {
  [ -f Pulumi.yaml ] || refuse "there is no Pulumi.yaml in $PWD. Run this in the project's folder."
  local stack
  for stack in "$@"; do
    [ -f "Pulumi.$stack.yaml" ] || refuse "there is no Pulumi.$stack.yaml in $PWD. Name a stack that has one."
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

# What a run that changes or compares a stack cannot do without.
need_state() {
  [ -n "${PULUMI_BACKEND_URL:-}" ] || refuse "PULUMI_BACKEND_URL is not set. Say where the state is \
kept: s3://BUCKET, gs://BUCKET, azblob://CONTAINER, file:///FOLDER or https://api.pulumi.com"
  case $PULUMI_BACKEND_URL in https://*) return ;; esac
  [ -n "${PULUMI_CONFIG_PASSPHRASE:-}${PULUMI_CONFIG_PASSPHRASE_FILE:-}" ] ||
    grep -q '^secretsprovider:' "Pulumi.$1.yaml" ||
    refuse "PULUMI_CONFIG_PASSPHRASE is not set. The stack's secrets are encrypted with it; keep it."
}

# The secrets that the pipeline holds, encrypted into the copy's config; not on a command line.
take_secrets() {
  local name variable listed
  listed=$("$RUN" python -m ape_infra.automation.pipeline secrets)
  while read -r name variable; do
    [ -z "${!variable:-}" ] ||
      printf %s "${!variable}" | "$RUN" pulumi config set --stack "$1" --secret "ape:$name" >&2
  done <<<"$listed"
}

# What may differ for this stack from "all policies are mandatory": policy/STACK.json.
policies() {
  printf '%s\n' --policy-pack "$POLICY/__main__.py"
  [ ! -f "$POLICY/$1.json" ] || printf '%s\n' --policy-pack-config "$POLICY/$1.json"
}

preview_one() {
  local stack=$1 rc=$NO_STACK arguments
  if [ -n "${PULUMI_BACKEND_URL:-}" ]; then
    need_state "$stack"
    rc=0
    "$RUN" pulumi stack select "$stack" >&2 || rc=$?
  fi
  case $rc in
    0) take_secrets "$stack" ;;
    "$NO_STACK")
      say "Stack $stack is in no state that this run can see: a preview of a new one, with stand-ins for its secrets."
      export PULUMI_BACKEND_URL=file://$WORK/state PULUMI_CONFIG_PASSPHRASE=of-a-preview
      unset PULUMI_CONFIG_PASSPHRASE_FILE
      mkdir -p "$WORK/state"
      "$RUN" python -m ape_infra.automation.pipeline stand-ins "Pulumi.$stack.yaml"
      "$RUN" pulumi stack init "$stack" >&2
      ;;
    *) return "$FAILED" ;;
  esac
  mapfile -t arguments < <(policies "$stack")
  "$RUN" pulumi preview --stack "$stack" --color never --suppress-progress "${arguments[@]}" 2>&1 |
    tee "$OUT/preview-$stack.txt"
}

# Markdown for the pull request and the run's page.
comment() {
  local stack summary share=$((COMMENT_BYTES / $#))
  for stack in "$@"; do
    summary=$(grep -A4 '^Resources:' "$OUT/preview-$stack.txt" | sed 1d | xargs || true)
    # shellcheck disable=SC2016
    printf '### Preview of `%s`\n\n<details><summary>%s</summary>\n\n~~~~\n' "$stack" "${summary:-failed}"
    if [ "$(wc -c <"$OUT/preview-$stack.txt")" -gt "$share" ]; then
      printf '(the end of it; the whole is in the artefact)\n'
      # The first line is cut, maybe in the middle of a character.
      tail -c "$share" "$OUT/preview-$stack.txt" | sed 1d
    else
      cat "$OUT/preview-$stack.txt"
    fi
    printf '\n~~~~\n\n</details>\n\n'
  done
}

lint() {
  cd "$ROOT"
  "$RUN" ruff format --check .
  "$RUN" ruff check .
  "$RUN" mypy
  "$RUN" python -m ape_infra.automation.generate --check
  if ! "$RUN" sh -c 'command -v actionlint' >/dev/null && command -v go >/dev/null; then
    GOBIN=$ROOT/.ape/bin go install "github.com/rhysd/actionlint/cmd/actionlint@$ACTIONLINT"
  fi
  if "$RUN" sh -c 'command -v actionlint' >/dev/null; then
    "$RUN" actionlint
  else
    say "lint: the workflows were not looked at, neither actionlint nor Go is here"
  fi
  if command -v shellcheck >/dev/null; then
    shellcheck scripts/*.sh offline/*.sh
  else
    say "lint: the scripts were not looked at, shellcheck is not here"
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
    # Not as a condition: bash would ignore a command that fails in the middle.
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
  need_state "$stack"
  "$RUN" pulumi stack select --create "$stack" >&2
  take_secrets "$stack"
  mapfile -t arguments < <(policies "$stack")
  "$RUN" pulumi up --stack "$stack" --yes --refresh --color never --suppress-progress "${arguments[@]}"
  local end=$((SECONDS + WELL_SECONDS))
  until
    rc=0
    "$RUN" python -m ape_infra status --stack "$stack" || rc=$?
    [ "$rc" = 0 ]
  do
    [ "$SECONDS" -lt "$end" ] || return "$UNWELL"
    sleep 5
  done
}

drift() {
  local stack=$1 rc=0
  enter_copy "$stack"
  need_state "$stack"
  "$RUN" pulumi stack select "$stack" >&2 || rc=$?
  [ "$rc" != "$NO_STACK" ] || refuse "stack $stack is in no state at $PULUMI_BACKEND_URL. Deploy it first."
  [ "$rc" = 0 ] || return "$FAILED"
  take_secrets "$stack"
  "$RUN" pulumi preview --stack "$stack" --refresh --expect-no-changes --color never --suppress-progress || rc=$?
  case $rc in
    0) say "No drift: stack $stack runs as declared." ;;
    "$CHANGES")
      say "Drift: stack $stack differs from what is declared, as shown above. A deployment heals it."
      return "$DRIFT"
      ;;
    *) return "$FAILED" ;;
  esac
}

command=${1:-}
[ $# = 0 ] || shift
case $command in
  lint) setup=(--no-docker) ;;
  test) setup=() ;;
  preview)
    [ $# -gt 0 ] || refuse "name the stacks to preview"
    setup=(--no-docker)
    ;;
  deploy | drift)
    [ $# = 1 ] || refuse "name the one stack to $command"
    setup=()
    ;;
  *) refuse "say what to do: lint, test, preview STACK..., deploy STACK or drift STACK" ;;
esac
"$ROOT/offline/setup.sh" "${setup[@]}"
case $command in
  test) run_tests "$@" ;;
  *) "$command" "$@" ;;
esac
