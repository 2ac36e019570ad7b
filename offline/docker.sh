#!/usr/bin/env bash
# up: use the Docker daemon that answers, or install and start one. down: stop the one we started.
# shellcheck source=offline/common.sh
. "$(dirname "$0")/common.sh"

PID=$APE/dockerd.pid
DAEMON_PID=/var/run/docker.pid
CONTAINERD_PID=/var/run/docker/containerd/containerd.pid
WAIT_SECONDS=60

# alive PID NAME: whether that process runs and is the one of that name. A dead process that nobody
# has waited for is gone, too.
alive() {
  [ "$(cat "/proc/${1:-none}/comm" 2>/dev/null)" = "$2" ] &&
    grep -qs '^State:[[:space:]]*[^Z[:space:]]' "/proc/$1/status"
}

# stop PID NAME: end that process, and wait until it is gone.
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
  die "$2 (process $1) does not stop; end it with: kill -9 $1"
}

answers() { timeout 10 docker info >/dev/null 2>&1 && [ -n "$(docker info --format '{{.ServerVersion}}' 2>/dev/null)" ]; }

up() {
  command -v docker >/dev/null && answers && return
  [ -z "${DOCKER_HOST:-}" ] || die "no Docker daemon answers at DOCKER_HOST=$DOCKER_HOST. Start it, or unset DOCKER_HOST."
  is_root || die "no Docker daemon answers, and only root can start one. Start Docker (sudo systemctl start docker), or run this as root."
  if ! command -v dockerd >/dev/null; then
    command -v apt-get >/dev/null || die "no Docker here, and no apt-get to install it with. Install Docker and try again."
    say "Docker is not installed; installing Debian's docker.io with apt-get"
    step "apt-get update" apt-get update
    step "apt-get install docker.io" env DEBIAN_FRONTEND=noninteractive \
      apt-get install -y --no-install-recommends docker.io iptables
    answers && return
  fi
  # A killed dockerd leaves its pid file, and another process may have the number by now.
  alive "$(cat "$DAEMON_PID" 2>/dev/null)" dockerd || rm -f "$DAEMON_PID"
  # Its containerd exits with it, but not at once. A new dockerd that finds the old containerd's pid,
  # even that of a zombie, would wait for it without success.
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
  die "the Docker daemon does not answer after $WAIT_SECONDS s; its log is $APE/logs/dockerd.log"
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
