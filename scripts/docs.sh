#!/usr/bin/env bash
# Build the documentation's site into .ape/docs/site. A link that leads nowhere fails.
#
#   docs.sh            build it
#   docs.sh serve      show it at http://127.0.0.1:8000, and again after each change
# shellcheck source=offline/common.sh
. "$(dirname "$0")/../offline/common.sh"

SITE=$APE/docs
LOCK=$ROOT/docs/requirements.lock

# Its packages are not those of the project: they have an environment of their own.
venv() {
  fresh docs "$ROOT/offline/pip.lock" "$LOCK" && [ -x "$SITE/venv/bin/mkdocs" ] && return
  rm -rf "$SITE/venv"
  step "virtual environment of the documentation" python3 -m venv "$SITE/venv"
  step "packages of the documentation" "$SITE/venv/bin/pip" install --quiet --require-hashes \
    -r "$ROOT/offline/pip.lock" -r "$LOCK"
  done_with docs "$ROOT/offline/pip.lock" "$LOCK"
}

mkdir -p "$SITE"
venv
cd "$ROOT"
case ${1:-build} in
  build)
    # Not with --quiet, which drops the warnings that --strict counts. Without the theme's notice.
    step "site" env NO_MKDOCS_2_WARNING=1 "$SITE/venv/bin/python" -m mkdocs build --strict
    say "Documentation: $SITE/site/index.html"
    ;;
  serve) exec "$SITE/venv/bin/python" -m mkdocs serve ;;
  *) die "name build or serve" ;;
esac
