#!/usr/bin/env bash
# Installs what is missing into the project's own folder .ape/; `--no-docker`: for previews only.
# shellcheck source=offline/common.sh
. "$(dirname "$0")/common.sh"

venv() {
  local lock=$ROOT/requirements.lock pip=$ROOT/offline/pip.lock project=$ROOT/pyproject.toml
  python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    die "Python 3.11 or later is needed (Debian 12: apt-get install python3 python3-venv)."
  # The scripts of a virtual environment contain its path: one that was moved is created again.
  fresh venv "$pip" "$lock" "$project" && [ -x "$APE/venv/bin/python" ] &&
    [ "$(head -n 1 "$APE/venv/bin/pytest")" = "#!$APE/venv/bin/python3" ] && return
  rm -rf "$APE/venv"
  step "virtual environment" python3 -m venv "$APE/venv"
  step "Python packages" "$APE/venv/bin/pip" install --quiet --require-hashes \
    -r "$pip" -r "$lock"
  # The project's own packages, in place: an edited source takes effect at once.
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
  go build -mod=readonly -buildvcs=false -ldflags "-s -w" -o "$APE/bin/pulumi-language-python-host" \
    github.com/pulumi/pulumi/sdk/v3/python/cmd/pulumi-language-python
  # Not written over a binary of an earlier setup, which may be running.
  cp pulumi-language-python "$APE/bin/pulumi-language-python.new"
  mv "$APE/bin/pulumi-language-python.new" "$APE/bin/pulumi-language-python"
}

pulumi_cli() {
  if command -v pulumi >/dev/null && command -v pulumi-language-python >/dev/null &&
    [ "$(command -v pulumi)" != "$APE/bin/pulumi" ]; then
    say "Pulumi: using $(command -v pulumi), $(pulumi version) (this project is tested with v$PULUMI_VERSION)"
    return
  fi
  local files=("$ROOT"/offline/{pulumi,language-host}/go.{mod,sum})
  files+=("$ROOT/offline/language-host/pulumi-language-python")
  fresh pulumi "${files[@]}" && [ -x "$APE/bin/pulumi" ] &&
    [ -x "$APE/bin/pulumi-language-python" ] && return
  command -v go >/dev/null ||
    die "neither Pulumi nor Go 1.26, which could build it, is installed. Install one of them and try again."
  # An older Go may download 1.26 by itself; one that may not reports it here.
  (cd "$ROOT/offline/pulumi" && go list -mod=readonly -m) >"$APE/logs/go.log" 2>&1 ||
    die "Go 1.26 or later is needed to build Pulumi: $(tail -n 1 "$APE/logs/go.log")"
  step "Pulumi $PULUMI_VERSION, built with Go (some minutes)" build_cli
  step "Pulumi's Python host, built with Go" build_language_host
  done_with pulumi "${files[@]}"
}

plugin() {
  local home launcher=$APE/plugin/pulumi-resource-docker installed
  # shellcheck disable=SC2016
  home=$("$APE/run" bash -c 'echo "${PULUMI_HOME:-$(eval "echo ~$(id -un)")/.pulumi}"')
  installed=$home/plugins/resource-docker-v$PLUGIN_VERSION/pulumi-resource-docker
  mkdir -p "$APE/plugin"
  printf '#!/bin/sh\nAPE_PYTHON=%q exec %q "$@"\n' "$APE/venv/bin/python" \
    "$ROOT/offline/provider/pulumi-resource-docker" >"$launcher"
  chmod 755 "$launcher"
  if [ -x "$installed" ]; then
    # The stand-in is a script.
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
    die "pulumi-docker $PLUGIN_VERSION cannot be downloaded, and its stand-in is not put into your own PULUMI_HOME ($home) without your consent. Install the stand-in yourself (pulumi plugin install resource docker $PLUGIN_VERSION --file $APE/plugin), or the published plugin (--file FILE)."
  "$APE/run" pulumi plugin install resource docker "$PLUGIN_VERSION" --file "$APE/plugin" \
    >"$APE/logs/plugin.log" 2>&1 || die "the plugin could not be installed, see $APE/logs/plugin.log"
  say "Plugin: pulumi-docker cannot be downloaded; using the stand-in of offline/provider"
}

# Pulumi writes a salt into a stack config that fits one passphrase only: with a new passphrase it
# rejects the stack ("incorrect passphrase"). A config that has secrets keeps its salt.
forget_salts() {
  local file
  for file in "$ROOT"/Pulumi.*.yaml; do
    grep -qs '^encryptionsalt:' "$file" || continue
    if grep -q 'secure:' "$file"; then
      say "${file##*/}: its secrets were encrypted with another passphrase. Set PULUMI_CONFIG_PASSPHRASE to it."
    else
      sed -i '/^encryptionsalt:/d' "$file"
    fi
  done
}

# For `source .ape/env`, and for programs that .ape/run starts. Your own Pulumi stays: a home with a
# login is used as it is, and a backend that you have set or are logged in to keeps its passphrase.
environment() {
  mkdir -p "$APE/state" "$APE/pulumi"
  # Pulumi logs every command in full (15 MB for a preview of 1000 agents, 2 s of CPU) and has no
  # setting to turn that off. It works without the folder of logs.
  [ -f "$APE/pulumi/logs" ] || { rm -rf "$APE/pulumi/logs" && : >"$APE/pulumi/logs"; }
  cat >"$APE/env.new" <<EOF
export APE_SETUP="$APE"
export PATH="$APE/bin:$APE/venv/bin:\$PATH"
export VIRTUAL_ENV="$APE/venv"
# Pulumi's default home is that of the account, whatever HOME is.
if ! grep -qsE '"current": *"[^"]' \
  "\${PULUMI_HOME:-\$(eval "echo ~\$(id -un)")/.pulumi}/credentials.json"; then
  export PULUMI_HOME="\${PULUMI_HOME:-$APE/pulumi}"
  if [ -z "\${PULUMI_BACKEND_URL:-}\${PULUMI_ACCESS_TOKEN:-}" ]; then
    export PULUMI_BACKEND_URL="file://$APE/state"
    [ -n "\${PULUMI_CONFIG_PASSPHRASE+x}" ] ||
      export PULUMI_CONFIG_PASSPHRASE_FILE="\${PULUMI_CONFIG_PASSPHRASE_FILE:-$APE/passphrase}"
  fi
fi
export PULUMI_SKIP_UPDATE_CHECK=true PULUMI_AUTOMATION_API_SKIP_VERSION_CHECK=true
export PULUMI_DIY_BACKEND_DISABLE_CHECKPOINT_BACKUPS="\${PULUMI_DIY_BACKEND_DISABLE_CHECKPOINT_BACKUPS:-true}"
EOF
  # Renamed into place: another make may be reading these files.
  mv "$APE/env.new" "$APE/env"
  printf '#!/usr/bin/env bash\n. %q\nexec "$@"\n' "$APE/env" >"$APE/run.new"
  chmod 755 "$APE/run.new"
  mv "$APE/run.new" "$APE/run"
  # The command, for any folder, without `source .ape/env`.
  printf '#!/usr/bin/env bash\n. %q\nexec %q "$@"\n' \
    "$APE/env" "$APE/venv/bin/ape-load" >"$APE/ape-load.new"
  chmod 755 "$APE/ape-load.new"
  mv "$APE/ape-load.new" "$APE/bin/ape-load"
  [ ! -s "$APE/passphrase" ] || return 0
  (umask 077 && head -c 24 /dev/urandom | base64 >"$APE/passphrase")
  # shellcheck disable=SC2016
  [ "$("$APE/run" bash -c 'echo "${PULUMI_CONFIG_PASSPHRASE_FILE:-}"')" != "$APE/passphrase" ] ||
    forget_salts
}

venv
environment
pulumi_cli
plugin
if [ "${1:-}" != --no-docker ]; then
  "$ROOT/offline/docker.sh" up
  "$ROOT/offline/images.sh"
fi
