#!/usr/bin/env bash
# Provide the base images: present, pulled, or, without a registry, made from Debian's packages.
# `full`: also those of `observability: full`; VictoriaLogs is built from its Go module, and a script
# stands in for Alloy. Loki and Grafana are not built here.
# shellcheck source=offline/common.sh
. "$(dirname "$0")/common.sh"

SUITE=bookworm
# The defaults of the settings, as BASE_IMAGE, PROMETHEUS_IMAGE and so on.
defaults=$("$APE/venv/bin/python" -c '
from ape_infra.config.images import ImageSettings
for name, image in ImageSettings():
    print(f"{name.upper()}_IMAGE={image or str()}")') || die "the settings cannot be read. Run: make setup"
eval "$defaults"

present() { docker image inspect "$1" >/dev/null 2>&1; }
standin() { [ "$(docker image inspect -f '{{index .Config.Labels "ape.standin"}}' "$1" 2>/dev/null)" = true ]; }
pull() { within 120 docker pull -q "$1" >/dev/null 2>&1; }

need_debian() {
  command -v apt-get >/dev/null || die "$1 cannot be pulled, and its stand-in is made with apt-get, which is not installed. Load the image with: docker load"
  is_root || die "$1 cannot be pulled, and its stand-in is made as root. Load the image with docker load, or run this as root."
}

# Debian 12 also has Python 3.11. pip is for the build stages, as in the published image.
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
  docker import --change 'CMD ["python3"]' --change 'LABEL ape.standin=true' "$tar" "$BASE_IMAGE"
}

# debian DIR PACKAGE...: unpack the Debian packages and busybox into DIR.
debian() {
  local dir=$1 deb
  shift
  apt-get update
  # apt changes to user _apt, which must be able to write into the folder.
  mkdir -p "$dir"
  chmod 755 "$dir"
  (cd "$dir" && apt-get -o APT::Sandbox::User=root download "$@" busybox-static)
  for deb in "$dir"/*.deb; do dpkg -x "$deb" "$dir"; done
}

# pack IMAGE USER DATA BUSYBOX BINARY...: make an image of the binaries and their libraries that
# starts the first binary, with busybox for the health check, as in the published image; none if
# BUSYBOX is empty.
pack() {
  local image=$1 user=$2 data=$3 busybox=$4 root binary lib
  shift 4
  root=$(mktemp -d "$APE/cache/root.XXXX")
  mkdir -p "$root"/{bin,etc,tmp} "$root$data"
  if [ -n "$busybox" ]; then
    cp "$busybox" "$root/bin/busybox"
    for lib in sh wget; do ln -s busybox "$root/bin/$lib"; done
  fi
  for binary in "$@"; do
    cp "$binary" "$root/bin/"
    # A static binary has no libraries.
    { ldd "$binary" || true; } | grep -o '/[^ )]*' | while read -r lib; do
      [ ! -e "$lib" ] || { mkdir -p "$root$(dirname "$lib")" && cp -L "$lib" "$root$lib"; }
    done || true
  done
  printf 'root:x:0:0::/:/bin/sh\nuser:x:%s:%s::%s:/bin/sh\n' "$user" "$user" "$data" >"$root/etc/passwd"
  mkdir -p "$root/etc/ssl/certs"
  cp -L /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
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
  # Debian's Alertmanager reads its templates from a file, the published one contains them.
  TEMPLATES="$dir/usr/share/prometheus" \
    pack "$ALERTMANAGER_IMAGE" 65534 /alertmanager "$(find "$dir" -path '*bin/busybox' -type f)" \
    "$dir"/usr/bin/{alertmanager,amtool}
  rm -rf "$dir"
}

need_go() {
  command -v go >/dev/null ||
    die "$1 cannot be pulled, and building its stand-in needs Go 1.26.5 or later. Install Go, or load the image with: docker load"
}

# The published image has no shell, runs as root, and has a home for user 65532.
make_victorialogs() {
  local dir
  need_go "$VICTORIALOGS_IMAGE"
  dir=$(mktemp -d "$APE/cache/victorialogs.XXXX")
  (cd "$ROOT/offline/victorialogs" && CGO_ENABLED=0 go build -mod=readonly -buildvcs=false \
    -o "$dir/victoria-logs" -ldflags \
    "-s -w -X github.com/VictoriaMetrics/VictoriaMetrics/lib/buildinfo.Version=victoria-logs-${VICTORIALOGS_IMAGE##*:}" \
    github.com/VictoriaMetrics/VictoriaLogs/app/victoria-logs)
  pack "$VICTORIALOGS_IMAGE" 65532 /home/nonroot "" "$dir/victoria-logs"
  rm -rf "$dir"
}

make_alloy() {
  docker build --quiet --build-arg "BASE_IMAGE=$BASE_IMAGE" -t "$ALLOY_IMAGE" "$ROOT/offline/alloy"
}

# Containers cannot reach a package index, so the build takes the wheels from its context.
wheels_for=("$ROOT"/services/requirements/*.lock)
wheels() {
  local lock service
  rm -rf "$ROOT/services/wheels"
  for lock in "$ROOT"/services/requirements/*.lock; do
    service=$(basename "$lock" .lock)
    mkdir -p "$ROOT/services/wheels/$service"
    # A service may need no package.
    grep -q == "$lock" || continue
    # For the image's Python, which may differ from the host's.
    "$APE/venv/bin/pip" download --quiet --only-binary=:all: --require-hashes --no-deps \
      --python-version 3.11 --implementation cp \
      -d "$ROOT/services/wheels/$service" -r "$lock"
  done
  done_with wheels "${wheels_for[@]}"
}

# have IMAGE HOW MAKE: pull the image, or make its stand-in with the function MAKE.
have() {
  present "$1" || pull "$1" || {
    need_debian "$1"
    step "stand-in for $1$2" "$3"
  }
}

have "$BASE_IMAGE" " from Debian's packages" make_python
have "$PROMETHEUS_IMAGE" " from Debian's package" make_prometheus
if standin "$BASE_IMAGE"; then
  fresh wheels "${wheels_for[@]}" || step "wheels for the images" wheels
fi
if [ "${1:-}" = full ]; then
  have "$ALERTMANAGER_IMAGE" " from Debian's package" make_alertmanager
  have "$VICTORIALOGS_IMAGE" ", built with Go" make_victorialogs
  have "$ALLOY_IMAGE" ", on the services' base image" make_alloy
  present "$LOKI_IMAGE" || pull "$LOKI_IMAGE" ||
    say "$LOKI_IMAGE cannot be pulled, and has no stand-in. Set logStore to victorialogs"
  present "$GRAFANA_IMAGE" || pull "$GRAFANA_IMAGE" ||
    say "$GRAFANA_IMAGE cannot be pulled, and has no stand-in. Leave grafana out: set observabilityParts"
fi
