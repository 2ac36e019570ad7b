#!/usr/bin/env bash
# The base images: present, pulled, or, where no registry is reached, made from Debian's packages.
# shellcheck source=offline/common.sh
. "$(dirname "$0")/common.sh"

PYTHON_IMAGE=python:3.11-slim
PROMETHEUS_IMAGE=prom/prometheus:v2.42.0
SUITE=bookworm

present() { docker image inspect "$1" >/dev/null 2>&1; }
standin() { [ "$(docker image inspect -f '{{index .Config.Labels "ape.standin"}}' "$1" 2>/dev/null)" = true ]; }
pull() { timeout 120 docker pull -q "$1" >/dev/null 2>&1; }

need_debian() {
  command -v apt-get >/dev/null || die "$1 cannot be pulled, and its stand-in is made with apt-get, which is not here. Load the image with: docker load"
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

# Binaries of Debian's package with the libraries they are linked to, and busybox for the health
# check, as in the real image.
make_prometheus() {
  local dir root deb lib
  dir=$(mktemp -d "$APE/cache/prometheus.XXXX")
  root=$dir/root
  mkdir -p "$root"/{bin,etc/prometheus,prometheus,tmp,debs}
  apt-get update
  # apt drops its rights to _apt, which must be able to write here.
  chmod 755 "$dir"
  (cd "$dir" && apt-get -o APT::Sandbox::User=root download prometheus busybox-static)
  for deb in "$dir"/*.deb; do dpkg -x "$deb" "$dir/x"; done
  cp "$dir"/x/usr/bin/{prometheus,promtool} "$root/bin/"
  cp "$(find "$dir/x" -path '*bin/busybox' -type f)" "$root/bin/busybox"
  for lib in sh wget; do ln -s busybox "$root/bin/$lib"; done
  ldd "$root/bin/prometheus" | grep -o '/[^ )]*' | while read -r lib; do
    install -D "$(readlink -f "$lib")" "$root$lib"
  done
  printf 'root:x:0:0::/:/bin/sh\nnobody:x:65534:65534::/prometheus:/bin/sh\n' >"$root/etc/passwd"
  install -D /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/ca-certificates.crt"
  rmdir "$root/debs"
  chmod 1777 "$root/tmp"
  chown 65534:65534 "$root/prometheus"
  tar -C "$root" -c . | docker import --change 'ENTRYPOINT ["/bin/prometheus"]' \
    --change 'USER 65534' --change 'WORKDIR /prometheus' --change 'LABEL ape.standin=true' \
    - "$PROMETHEUS_IMAGE"
  rm -rf "$dir"
}

# Containers here reach no index, so the build takes the wheels from the context.
wheels() {
  local locks=("$ROOT"/services/*/requirements.lock) lock
  fresh wheels "${locks[@]}" && return
  find "$ROOT/services/wheels" -name '*.whl' -delete
  for lock in "${locks[@]}"; do
    # For the image's Python, which need not be the host's.
    "$APE/venv/bin/pip" download --quiet --only-binary=:all: --require-hashes --no-deps \
      --python-version 3.11 --implementation cp \
      -d "$ROOT/services/wheels" -r "$lock"
  done
  done_with wheels "${locks[@]}"
}

present "$PYTHON_IMAGE" || pull "$PYTHON_IMAGE" || {
  need_debian "$PYTHON_IMAGE"
  step "stand-in for $PYTHON_IMAGE from Debian's packages" make_python
}
present "$PROMETHEUS_IMAGE" || pull "$PROMETHEUS_IMAGE" || {
  need_debian "$PROMETHEUS_IMAGE"
  step "stand-in for $PROMETHEUS_IMAGE from Debian's package" make_prometheus
}
if standin "$PYTHON_IMAGE"; then
  fresh wheels "$ROOT"/services/*/requirements.lock || step "wheels for the images" wheels
fi
