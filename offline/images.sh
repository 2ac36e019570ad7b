#!/usr/bin/env bash
# The base images: present, pulled, or, where no registry is reached, made from Debian's packages.
# With `full` those of `observability: full`, too; Loki is built from its Go module.
# shellcheck source=offline/common.sh
. "$(dirname "$0")/common.sh"

PYTHON_IMAGE=python:3.11-slim
PROMETHEUS_IMAGE=prom/prometheus:v2.42.0
ALERTMANAGER_IMAGE=prom/alertmanager:v0.25.0
LOKI_IMAGE=grafana/loki:3.4.2
GRAFANA_IMAGE=grafana/grafana:11.6.0
ALLOY_IMAGE=grafana/alloy:v1.7.5
SUITE=bookworm

present() { docker image inspect "$1" >/dev/null 2>&1; }
standin() { [ "$(docker image inspect -f '{{index .Config.Labels "ape.standin"}}' "$1" 2>/dev/null)" = true ]; }
pull() { timeout 120 docker pull -q "$1" >/dev/null 2>&1; }

need_debian() {
  command -v apt-get >/dev/null || die "$1 cannot be pulled, and its stand-in is made with apt-get, which is not installed. Load the image with: docker load"
  is_root || die "$1 cannot be pulled, and its stand-in is made as root. Load the image with docker load, or run this as root."
}

# Debian 12's Python is 3.11 too. pip is there for the build stages, as in the real image.
make_python() {
  local tar=$APE/cache/python.tar
  if ! command -v mmdebstrap >/dev/null; then
    apt-get update
    DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends mmdebstrap
  fi
  # shellcheck disable=SC2016
  [ -s "$tar" ] || mmdebstrap --variant=minbase \
    --include=python3-minimal,libpython3.11-stdlib,python3-pip,ca-certificates \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' \
    --customize-hook='ln -s python3 "$1/usr/bin/python"' \
    --customize-hook='rm -f "$1"/usr/lib/python3*/EXTERNALLY-MANAGED' \
    --customize-hook='find "$1" -xdev -perm /6000 -type f -exec chmod a-s {} +' \
    "$SUITE" "$tar.new.tar"
  [ -s "$tar" ] || mv "$tar.new.tar" "$tar"
  docker import --change 'CMD ["python3"]' --change 'LABEL ape.standin=true' "$tar" "$PYTHON_IMAGE"
}

# debian DIR PACKAGE...: unpack Debian's packages and busybox into DIR.
debian() {
  local dir=$1 deb
  shift
  apt-get update
  # apt drops its rights to _apt, which must be able to write here.
  mkdir -p "$dir"
  chmod 755 "$dir"
  (cd "$dir" && apt-get -o APT::Sandbox::User=root download "$@" busybox-static)
  for deb in "$dir"/*.deb; do dpkg -x "$deb" "$dir"; done
}

# pack IMAGE USER DATA BUSYBOX BINARY...: an image of the binaries with the libraries they are linked
# to, started as the first of them, and busybox for the health check, as in the real image.
pack() {
  local image=$1 user=$2 data=$3 busybox=$4 root binary lib
  shift 4
  root=$(mktemp -d "$APE/cache/root.XXXX")
  mkdir -p "$root"/{bin,etc,tmp} "$root$data"
  cp "$busybox" "$root/bin/busybox"
  for lib in sh wget; do ln -s busybox "$root/bin/$lib"; done
  for binary in "$@"; do
    cp "$binary" "$root/bin/"
    # A static one has no libraries.
    { ldd "$binary" || true; } | grep -o '/[^ )]*' | while read -r lib; do
      [ ! -e "$lib" ] || install -D "$(readlink -f "$lib")" "$root$lib"
    done || true
  done
  printf 'root:x:0:0::/:/bin/sh\nuser:x:%s:%s::%s:/bin/sh\n' "$user" "$user" "$data" >"$root/etc/passwd"
  install -D /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/ca-certificates.crt"
  if [ -n "${TEMPLATES:-}" ]; then
    mkdir -p "$root/usr/share"
    cp -r "$TEMPLATES" "$root/usr/share/"
  fi
  chmod 755 "$root"
  chmod 1777 "$root/tmp"
  chown "$user:$user" "$root$data"
  tar -C "$root" -c . | docker import --change "ENTRYPOINT [\"/bin/$(basename "$1")\"]" \
    --change "USER $user" --change "WORKDIR $data" --change 'LABEL ape.standin=true' - "$image"
  rm -rf "$root"
}

make_prometheus() {
  local dir
  dir=$(mktemp -d "$APE/cache/prometheus.XXXX")
  debian "$dir" prometheus
  pack "$PROMETHEUS_IMAGE" 65534 /prometheus "$(find "$dir" -path '*bin/busybox' -type f)" \
    "$dir"/usr/bin/{prometheus,promtool}
  rm -rf "$dir"
}

make_alertmanager() {
  local dir
  dir=$(mktemp -d "$APE/cache/alertmanager.XXXX")
  debian "$dir" prometheus-alertmanager
  mv "$dir/usr/bin/prometheus-alertmanager" "$dir/usr/bin/alertmanager"
  # Debian's reads its templates from a file, the real one from itself.
  TEMPLATES="$dir/usr/share/prometheus" \
    pack "$ALERTMANAGER_IMAGE" 65534 /alertmanager "$(find "$dir" -path '*bin/busybox' -type f)" \
    "$dir"/usr/bin/{alertmanager,amtool}
  rm -rf "$dir"
}

make_loki() {
  local dir
  command -v go >/dev/null ||
    die "$LOKI_IMAGE cannot be pulled, and there is no Go 1.26 to build its stand-in with. Install Go, or load the image with: docker load"
  dir=$(mktemp -d "$APE/cache/loki.XXXX")
  debian "$dir"
  (cd "$ROOT/offline/loki" && CGO_ENABLED=0 go build -mod=readonly -buildvcs=false -o "$dir/loki" \
    -ldflags "-s -w -X github.com/grafana/loki/v3/pkg/util/build.Version=3.4.2" \
    github.com/grafana/loki/v3/cmd/loki)
  pack "$LOKI_IMAGE" 10001 /loki "$(find "$dir" -path '*bin/busybox' -type f)" "$dir/loki"
  rm -rf "$dir"
}

# Containers here reach no index, so the build takes the wheels from the context.
wheels_for=("$ROOT"/services/requirements/*.lock)
wheels() {
  local lock service
  rm -rf "$ROOT/services/wheels"
  for lock in "$ROOT"/services/requirements/*.lock; do
    service=$(basename "$lock" .lock)
    mkdir -p "$ROOT/services/wheels/$service"
    # A service may need nothing.
    grep -q == "$lock" || continue
    # For the image's Python, which need not be the host's.
    "$APE/venv/bin/pip" download --quiet --only-binary=:all: --require-hashes --no-deps \
      --python-version 3.11 --implementation cp \
      -d "$ROOT/services/wheels/$service" -r "$lock"
  done
  done_with wheels "${wheels_for[@]}"
}

# have IMAGE HOW MAKE: the image, or its stand-in, made by the function MAKE.
have() {
  present "$1" || pull "$1" || {
    need_debian "$1"
    step "stand-in for $1$2" "$3"
  }
}

have "$PYTHON_IMAGE" " from Debian's packages" make_python
have "$PROMETHEUS_IMAGE" " from Debian's package" make_prometheus
if standin "$PYTHON_IMAGE"; then
  fresh wheels "${wheels_for[@]}" || step "wheels for the images" wheels
fi
if [ "${1:-}" = full ]; then
  have "$ALERTMANAGER_IMAGE" " from Debian's package" make_alertmanager
  have "$LOKI_IMAGE" ", built with Go (some minutes)" make_loki
  for image in "$GRAFANA_IMAGE" "$ALLOY_IMAGE"; do
    present "$image" || pull "$image" ||
      say "$image: cannot be pulled, and has no stand-in; leave its part out (observabilityParts)"
  done
fi
