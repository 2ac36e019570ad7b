#!/usr/bin/env bash
# Sets up what is missing, in the project's own folder .ape/; `--no-docker` for previews only.
# shellcheck source=offline/common.sh
. "$(dirname "$0")/common.sh"

venv() {
  local lock=$ROOT/requirements.lock pip=$ROOT/offline/pip.lock project=$ROOT/pyproject.toml
  python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    die "Python 3.11 or later is needed (Debian 12: apt-get install python3 python3-venv)."
  # The scripts in a virtual environment carry its path: one that was moved is made again.
  fresh venv "$pip" "$lock" "$project" && [ -x "$APE/venv/bin/python" ] &&
    [ "$(head -n 1 "$APE/venv/bin/pytest")" = "#!$APE/venv/bin/python3" ] && return
  rm -rf "$APE/venv"
  step "virtual environment" python3 -m venv "$APE/venv"
  step "Python packages" "$APE/venv/bin/pip" install --quiet --require-hashes \
    -r "$pip" -r "$lock"
  # The project's own packages, in place: a changed source counts at once.
  step "the project's packages" "$APE/venv/bin/pip" install --quiet --no-deps \
    --no-build-isolation --editable "$ROOT"
  done_with venv "$pip" "$lock" "$project"
}

build_cli() {
  cd "$ROOT/offline/pulumi"
  go build -mod=readonly -buildvcs=false -o "$APE/bin/pulumi" -ldflags \
    "-s -w -X github.com/pulumi/pulumi/sdk/v3/go/common/version.Version=$PULUMI_VERSION" \
    github.com/pulumi/pulumi/pkg/v3/cmd/pulumi
  cp "$(go list -mod=readonly -m -f '{{.Dir}}' github.com/pulumi/pulumi/sdk/v3)/python/cmd/pulumi-language-python-exec" "$APE/bin/"
  chmod 755 "$APE/bin/pulumi-language-python-exec"
}

build_language_host() {
  cd "$ROOT/offline/language-host"
  go build -mod=readonly -buildvcs=false -ldflags "-s -w" -o "$APE/bin/pulumi-language-python" \
    github.com/pulumi/pulumi/sdk/v3/python/cmd/pulumi-language-python
}

pulumi_cli() {
  if command -v pulumi >/dev/null && command -v pulumi-language-python >/dev/null &&
    [ "$(command -v pulumi)" != "$APE/bin/pulumi" ]; then
    say "Pulumi: using $(command -v pulumi), $(pulumi version) (this project is tested with v$PULUMI_VERSION)"
    return
  fi
  local files=("$ROOT"/offline/{pulumi,language-host}/go.{mod,sum})
  fresh pulumi "${files[@]}" && [ -x "$APE/bin/pulumi" ] &&
    [ -x "$APE/bin/pulumi-language-python" ] && return
  command -v go >/dev/null ||
    die "no Pulumi here, and no Go 1.26 to build it with. Install one of them and try again."
  # An older Go may download 1.26 by itself. If it is not allowed to, its error message is shown.
  (cd "$ROOT/offline/pulumi" && go list -mod=readonly -m) >"$APE/logs/go.log" 2>&1 ||
    die "Go 1.26 or later is needed to build Pulumi: $(tail -n 1 "$APE/logs/go.log")"
  step "Pulumi $PULUMI_VERSION, built with Go (some minutes)" build_cli
  step "Pulumi's Python host, built with Go" build_language_host
  done_with pulumi "${files[@]}"
}

plugin() {
  local home=${PULUMI_HOME:-$APE/pulumi} launcher=$APE/plugin/pulumi-resource-docker
  local installed=$home/plugins/resource-docker-v$PLUGIN_VERSION/pulumi-resource-docker
  if [ -x "$installed" ]; then
    # Ours is a script.
    [ "$(head -c 2 "$installed")" != '#!' ] ||
      say "Plugin: the stand-in for pulumi-docker $PLUGIN_VERSION (offline/provider)"
    return
  fi
  if timeout 60 "$APE/run" pulumi plugin install resource docker "$PLUGIN_VERSION" \
    >"$APE/logs/plugin.log" 2>&1; then
    say "Plugin: pulumi-docker $PLUGIN_VERSION"
    return
  fi
  [ "$home" = "$APE/pulumi" ] ||
    die "pulumi-docker $PLUGIN_VERSION cannot be downloaded here, and its stand-in is not put into your own PULUMI_HOME ($home). Install it there (pulumi plugin install resource docker $PLUGIN_VERSION --file FILE), or unset PULUMI_HOME."
  mkdir -p "$APE/plugin"
  printf '#!/bin/sh\nAPE_PYTHON=%q exec %q "$@"\n' "$APE/venv/bin/python" \
    "$ROOT/offline/provider/pulumi-resource-docker" >"$launcher"
  chmod 755 "$launcher"
  "$APE/run" pulumi plugin install resource docker "$PLUGIN_VERSION" --file "$APE/plugin" \
    >"$APE/logs/plugin.log" 2>&1 || die "the plugin could not be installed, see $APE/logs/plugin.log"
  say "Plugin: pulumi-docker cannot be downloaded here; the stand-in of offline/provider is used"
}

# Pulumi notes in a stack's file a salt that fits one passphrase only: with a new one it would refuse
# the stack ("incorrect passphrase"). A file that holds secrets is left as it is.
forget_salts() {
  [ -z "${PULUMI_CONFIG_PASSPHRASE+x}${PULUMI_CONFIG_PASSPHRASE_FILE:-}" ] || return 0
  local file
  for file in "$ROOT"/Pulumi.*.yaml; do
    grep -qs '^encryptionsalt:' "$file" || continue
    if grep -q 'secure:' "$file"; then
      say "${file##*/}: its secrets were encrypted with another passphrase. Set PULUMI_CONFIG_PASSPHRASE to that one."
    else
      sed -i '/^encryptionsalt:/d' "$file"
    fi
  done
}

# For `source .ape/env`, and for programs that are run by .ape/run. What the user has set stays.
environment() {
  if [ ! -s "$APE/passphrase" ]; then
    (umask 077 && head -c 24 /dev/urandom | base64 >"$APE/passphrase")
    forget_salts
  fi
  mkdir -p "$APE/state" "$APE/pulumi"
  # Pulumi logs every command in full (15 MB for a preview of 1000 agents, 2 s of CPU) and has no
  # setting against it. Where its folder cannot be made it goes without.
  [ -f "$APE/pulumi/logs" ] || { rm -rf "$APE/pulumi/logs" && : >"$APE/pulumi/logs"; }
  cat >"$APE/env.new" <<EOF
export PATH="$APE/bin:$APE/venv/bin:\$PATH"
export VIRTUAL_ENV="$APE/venv"
export PULUMI_HOME="\${PULUMI_HOME:-$APE/pulumi}"
export PULUMI_BACKEND_URL="\${PULUMI_BACKEND_URL:-file://$APE/state}"
[ -n "\${PULUMI_CONFIG_PASSPHRASE+x}" ] ||
  export PULUMI_CONFIG_PASSPHRASE_FILE="\${PULUMI_CONFIG_PASSPHRASE_FILE:-$APE/passphrase}"
export PULUMI_SKIP_UPDATE_CHECK=true PULUMI_AUTOMATION_API_SKIP_VERSION_CHECK=true
export PULUMI_DIY_BACKEND_DISABLE_CHECKPOINT_BACKUPS="\${PULUMI_DIY_BACKEND_DISABLE_CHECKPOINT_BACKUPS:-true}"
EOF
  # Renamed into place: another make may be starting from these files just now.
  mv "$APE/env.new" "$APE/env"
  printf '#!/usr/bin/env bash\n. %q\nexec "$@"\n' "$APE/env" >"$APE/run.new"
  chmod 755 "$APE/run.new"
  mv "$APE/run.new" "$APE/run"
  # The command, from any folder, without `source .ape/env`.
  printf '#!/usr/bin/env bash\n. %q\nexec %q "$@"\n' \
    "$APE/env" "$APE/venv/bin/ape-load" >"$APE/ape-load.new"
  chmod 755 "$APE/ape-load.new"
  mv "$APE/ape-load.new" "$APE/bin/ape-load"
}

venv
environment
pulumi_cli
plugin
if [ "${1:-}" != --no-docker ]; then
  "$ROOT/offline/docker.sh" up
  "$ROOT/offline/images.sh"
fi
