#!/usr/bin/env bash
# Installs what is missing into the project's own folder .ape/; `--no-docker`: for previews only.
# `--tests`: with the packages of tests, lint and benches.
# shellcheck source=offline/common.sh
. "$(dirname "$0")/common.sh"

# packages FILE...: install exactly what the locks name; with uv where it is installed and works.
packages() {
  local lock locks=()
  for lock in "$@"; do locks+=(-r "$lock"); done
  ! command -v uv >/dev/null ||
    ! uv pip install --quiet --python "$APE/venv/bin/python" --compile-bytecode --require-hashes \
      --no-deps "${locks[@]}" || return 0
  "$APE/venv/bin/python" -m pip install --quiet --require-hashes --no-deps "${locks[@]}"
}

# Debian's python3 without python3-venv makes none; uv does.
make_venv() {
  rm -rf "$APE/venv" "$APE/stamps/tests"
  python3 -m venv "$APE/venv" || {
    command -v uv
    rm -rf "$APE/venv"
    uv venv --seed --python "$(command -v python3)" "$APE/venv"
  }
}

venv() {
  local lock=$ROOT/requirements.lock pip=$ROOT/offline/pip.lock project=$ROOT/pyproject.toml
  python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    die "Python 3.11 or later is needed (Debian 12: apt-get install python3 python3-venv)."
  # The scripts of a virtual environment contain its path: one that was moved is created again.
  fresh venv "$pip" "$lock" "$project" && [ -x "$APE/venv/bin/python" ] &&
    head -n 2 "$APE/venv/bin/ape-load" | grep -qF "$APE/venv/bin/" && return
  step "virtual environment" make_venv
  step "Python packages" packages "$pip" "$lock"
  # The project's own packages, in place: an edited source takes effect at once.
  step "the project's packages" "$APE/venv/bin/python" -m pip install --quiet --no-deps \
    --no-build-isolation --editable "$ROOT"
  done_with venv "$pip" "$lock" "$project"
}

# The packages of tests, lint and benches; their lock has those of the program, too.
test_packages() {
  local lock=$ROOT/requirements-tests.lock
  fresh tests "$lock" && return
  step "Python packages of the tests" packages "$lock"
  done_with tests "$lock"
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

# fetch URL FILE
fetch() { curl -fsSL --connect-timeout 10 --max-time 600 -o "$2" "$1"; }

# platform: as in the names of Pulumi's releases.
platform() {
  local machine
  machine=$(uname -m)
  case $machine in
  x86_64 | amd64) machine=x64 ;;
  aarch64) machine=arm64 ;;
  esac
  printf '%s-%s\n' "$(uname | tr '[:upper:]' '[:lower:]')" "$machine"
}

# Download Pulumi's release, compare it with its checksum, and unpack it into .ape/bin.
download_cli() {
  local name dir wanted
  name=pulumi-v$PULUMI_VERSION-$(platform).tar.gz
  rm -rf "$APE/cache"/pulumi.*
  dir=$(mktemp -d "$APE/cache/pulumi.XXXXXX")
  fetch "$PULUMI_RELEASES/v$PULUMI_VERSION/$name" "$dir/$name"
  wanted=$(grep "^[0-9a-f]\{64\}  $name\$" "$ROOT/offline/pulumi.sums" | cut -d' ' -f1) || {
    fetch "$PULUMI_RELEASES/v$PULUMI_VERSION/pulumi-$PULUMI_VERSION-checksums.txt" "$dir/sums"
    wanted=$(grep "^[0-9a-f]\{64\}  $name\$" "$dir/sums" | cut -d' ' -f1)
  }
  [ "$(sha256 "$dir/$name")" = "$wanted" ] || {
    say "the checksum of $name is $(sha256 "$dir/$name"), not $wanted"
    return 1
  }
  tar -xzf "$dir/$name" -C "$dir"
  # Not written over a binary of an earlier setup, which may be running.
  mv -f "$dir/pulumi/"* "$APE/bin/"
  rm -rf "$dir"
}

pulumi_cli() {
  if command -v pulumi >/dev/null && command -v pulumi-language-python >/dev/null &&
    [ "$(command -v pulumi)" != "$APE/bin/pulumi" ]; then
    say "Pulumi: using $(command -v pulumi), $(pulumi version) (this project is tested with v$PULUMI_VERSION)"
    return
  fi
  local reason files=("$ROOT"/offline/{pulumi,language-host}/go.{mod,sum})
  files+=("$ROOT/offline/language-host/pulumi-language-python")
  fresh pulumi "${files[@]}" && [ -x "$APE/bin/pulumi" ] &&
    [ -x "$APE/bin/pulumi-language-python" ] && return
  # A shell of its own: `set -e` has no effect in a condition.
  if (command -v curl && bash "$ROOT/offline/setup.sh" download-cli) >"$APE/logs/pulumi.log" 2>&1; then
    say "Pulumi $PULUMI_VERSION: downloaded"
    done_with pulumi "${files[@]}"
    return
  fi
  reason=$(tail -n 1 "$APE/logs/pulumi.log")
  say "Pulumi $PULUMI_VERSION cannot be downloaded: ${reason:-curl is not installed}"
  command -v go >/dev/null ||
    die "neither Pulumi nor Go 1.26, which could build it, is installed. Install one of them and try again."
  # An older Go may download 1.26 by itself; one that may not reports it here.
  (cd "$ROOT/offline/pulumi" && go list -mod=readonly -m) >"$APE/logs/go.log" 2>&1 ||
    die "Go 1.26 or later is needed to build Pulumi: $(tail -n 1 "$APE/logs/go.log")"
  step "Pulumi $PULUMI_VERSION, built with Go (some minutes)" build_cli
  step "Pulumi's Python host, built with Go" build_language_host
  done_with pulumi "${files[@]}"
}

# Install the published plugin. Without a network, curl fails at once and states the reason; Pulumi
# would try for a minute.
published_plugin() {
  local log=$APE/logs/plugin.log
  ! command -v curl >/dev/null ||
    curl -sS --connect-timeout 5 --max-time 10 -o /dev/null https://get.pulumi.com/ >"$log" 2>&1 || return 1
  within 120 "$APE/run" pulumi plugin install resource docker "$PLUGIN_VERSION" --reinstall >"$log" 2>&1
}

plugin() {
  local home launcher=$APE/plugin/pulumi-resource-docker installed reason standin=
  # shellcheck disable=SC2016
  home=$("$APE/run" bash -c 'echo "${PULUMI_HOME:-$(eval "echo ~$(id -un)")/.pulumi}"')
  installed=$home/plugins/resource-docker-v$PLUGIN_VERSION/pulumi-resource-docker
  mkdir -p "$APE/plugin"
  printf '#!/bin/sh\nAPE_PYTHON=%q exec %q "$@"\n' "$APE/venv/bin/python" \
    "$ROOT/offline/provider/pulumi-resource-docker" >"$launcher"
  chmod 755 "$launcher"
  # The stand-in is a script.
  [ ! -x "$installed" ] || [ "$(head -c 2 "$installed")" != '#!' ] || standin=true
  # One that you installed into your own PULUMI_HOME stays.
  if [ -x "$installed" ] && { [ -z "$standin" ] || [ "$home" != "$APE/pulumi" ]; }; then
    [ -z "$standin" ] || say "Plugin: the stand-in for pulumi-docker $PLUGIN_VERSION (offline/provider)"
    return
  fi
  if published_plugin; then
    say "Plugin: pulumi-docker $PLUGIN_VERSION"
    return
  fi
  reason=$(tail -n 1 "$APE/logs/plugin.log")
  reason="$(date '+%H:%M:%S') ${reason:-no answer in 120 s}"
  [ "$home" = "$APE/pulumi" ] ||
    die "pulumi-docker $PLUGIN_VERSION cannot be downloaded ($reason), and its stand-in is not put into your own PULUMI_HOME ($home) without your consent. Install the stand-in yourself (pulumi plugin install resource docker $PLUGIN_VERSION --file $APE/plugin), or the published plugin (--file FILE)."
  # A failed download may have removed it.
  if [ -z "$standin" ] || [ ! -x "$installed" ]; then
    "$APE/run" pulumi plugin install resource docker "$PLUGIN_VERSION" --file "$APE/plugin" --reinstall \
      >"$APE/logs/plugin.log" 2>&1 || die "the plugin could not be installed, see $APE/logs/plugin.log"
  fi
  say "Plugin: pulumi-docker cannot be downloaded ($reason); using the stand-in of offline/provider until it can"
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
      sed '/^encryptionsalt:/d' "$file" >"$file.new"
      mv "$file.new" "$file"
    fi
  done
}

# For `source .ape/env`, and for programs that .ape/run starts. Your own Pulumi stays, as
# `docs/how-to/setup.md` states: a login, a backend of a variable or of Pulumi.yaml, a token. They keep
# their home and their passphrase.
environment() {
  mkdir -p "$APE/state" "$APE/pulumi"
  # Pulumi logs every command in full (15 MB for a preview of 1000 agents, 2 s of CPU) and has no
  # setting to turn that off. It works without the folder of logs.
  [ -f "$APE/pulumi/logs" ] || { rm -rf "$APE/pulumi/logs" && : >"$APE/pulumi/logs"; }
  cat >"$APE/env.new" <<EOF
export APE_SETUP="$APE"
export PATH="$APE/bin:$APE/venv/bin:\$PATH"
export VIRTUAL_ENV="$APE/venv"
# Whether the folder has a login that is not the project's own state.
ape_login() {
  grep -soE '"current": *"[^"]+"' "\$1/credentials.json" | grep -qvF '"file://$APE/state'
}
# Pulumi's default home is that of the account, whatever HOME is.
if ! ape_login "\${PULUMI_CREDENTIALS_PATH:-\${PULUMI_HOME:-\$(eval "echo ~\$(id -un)")/.pulumi}}"; then
  export PULUMI_HOME="\${PULUMI_HOME:-$APE/pulumi}"
  if [ -z "\${PULUMI_BACKEND_URL:-}\${PULUMI_ACCESS_TOKEN:-}" ] &&
    ! ape_login "\$PULUMI_HOME" && ! grep -qs '^backend:' "$ROOT/Pulumi.yaml"; then
    export PULUMI_BACKEND_URL="file://$APE/state"
    [ -n "\${PULUMI_CONFIG_PASSPHRASE+x}" ] ||
      export PULUMI_CONFIG_PASSPHRASE_FILE="\${PULUMI_CONFIG_PASSPHRASE_FILE:-$APE/passphrase}"
  fi
fi
unset -f ape_login
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

docker=true tests=
for argument in "$@"; do
  case $argument in
  --no-docker) docker= ;;
  --tests) tests=true ;;
  download-cli)
    download_cli
    exit
    ;;
  *) die "usage: setup.sh [--no-docker] [--tests]" ;;
  esac
done
venv
[ -z "$tests" ] || test_packages
environment
pulumi_cli
plugin
if [ -n "$docker" ]; then
  "$ROOT/offline/docker.sh" up
  "$ROOT/offline/images.sh"
fi
