#!/usr/bin/env bash
# up: use the Docker daemon that answers, or install and start one. down: stop that one.
# shellcheck source=offline/common.sh
. "$(dirname "$0")/common.sh"

PID=$APE/dockerd.pid
DAEMON_PID=/var/run/docker.pid
CONTAINERD_PID=/var/run/docker/containerd/containerd.pid
WAIT_SECONDS=60

# alive PID NAME: whether the process runs and has that name. A zombie does not run.
alive() {
  [ "$(cat "/proc/${1:-none}/comm" 2>/dev/null)" = "$2" ] &&
    grep -qs '^State:[[:space:]]*[^Z[:space:]]' "/proc/$1/status"
}

# stop PID NAME: end the process, and wait until it has ended.
stop() {
  alive "$1" "$2" || return 0
  kill "$1"
  for _ in $(seq 60); do
    alive "$1" "$2" || {
      say "Docker: stopped"
      return 0
    }
    sleep 0.5
  done
  die "$2 (process $1) does not stop. End it with: kill -9 $1"
}

answers() { within 10 docker info >/dev/null 2>&1 && [ -n "$(docker info --format '{{.ServerVersion}}' 2>/dev/null)" ]; }

up() {
  command -v docker >/dev/null && answers && return
  [ -z "${DOCKER_HOST:-}" ] || die "no Docker daemon answers at DOCKER_HOST=$DOCKER_HOST. Start it, or unset DOCKER_HOST."
  local endpoint=
  ! command -v docker >/dev/null ||
    endpoint=$(docker context inspect --format '{{.Endpoints.docker.Host}}' 2>&1) ||
    die "your Docker context cannot be read: $endpoint. Choose another: docker context use NAME."
  case $endpoint in
  '' | unix:///var/run/docker.sock) ;;
  *) die "no Docker daemon answers at $endpoint, which your Docker context names. Start it, or choose another: docker context use NAME." ;;
  esac
  [ "$(uname)" = Linux ] || die "no Docker daemon answers. Start Docker Desktop, Colima or another one, and try again."
  is_root || die "no Docker daemon answers, and only root can start one. Start Docker (sudo systemctl start docker), or run this as root."
  if ! command -v dockerd >/dev/null; then
    command -v apt-get >/dev/null || die "Docker is not installed, and neither is apt-get, which could install it. Install Docker and try again."
    say "Docker is not installed; installing Debian's docker.io with apt-get"
    step "apt-get update" apt-get update
    step "apt-get install docker.io" env DEBIAN_FRONTEND=noninteractive \
      apt-get install -y --no-install-recommends docker.io iptables
    answers && return
  fi
  # A killed dockerd leaves its pid file, and another process may have its number since.
  alive "$(cat "$DAEMON_PID" 2>/dev/null)" dockerd || rm -f "$DAEMON_PID"
  # Its containerd ends after it, but not at once; a new dockerd that finds its number, even that of
  # a zombie, waits for it forever.
  for _ in $(seq 20); do
    alive "$(cat "$CONTAINERD_PID" 2>/dev/null)" containerd || break
    sleep 0.5
  done
  alive "$(cat "$CONTAINERD_PID" 2>/dev/null)" containerd || rm -f "$CONTAINERD_PID"
  setsid nohup dockerd >"$APE/logs/dockerd.log" 2>&1 </dev/null &
  echo $! >"$PID"
  for _ in $(seq $((WAIT_SECONDS * 2))); do
    answers && say "Docker: started (log: .ape/logs/dockerd.log)" && return
    sleep 0.5
  done
  tail -n 15 "$APE/logs/dockerd.log" >&2
  die "the Docker daemon does not answer after $WAIT_SECONDS s. Its log: $APE/logs/dockerd.log"
}

down() {
  [ -s "$PID" ] || return 0
  stop "$(cat "$PID")" dockerd
  rm -f "$PID"
}

case "${1:-}" in
up | down) "$1" ;;
*) die "usage: docker.sh up|down" ;;
esac
