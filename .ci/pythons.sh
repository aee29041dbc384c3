#!/usr/bin/env bash
# The fast tests with every Python from 3.11 to 3.14 that is here, each with the versions of requirements.lock:
# .ci/pythons.sh [PYTHON...]. Environments are made in build/pythons. A missing Python is named and left out.
set -euo pipefail
cd "$(dirname "$0")/.."
export DO_NOT_TRACK=1
make install
pythons=("$@")
[ ${#pythons[@]} -gt 0 ] || pythons=(python3.11 python3.12 python3.13 python3.14)
failed=0
for python in "${pythons[@]}"; do
  if ! "$python" -c "" 2>/dev/null; then
    echo "$python: is not here"
    continue
  fi
  place="build/pythons/$(basename "$python")"
  test -x "$place/bin/python" || "$python" -m venv "$place"
  VIRTUAL_ENV="$PWD/$place" .venv/bin/uv pip install --quiet --compile-bytecode --require-hashes -r requirements.lock
  VIRTUAL_ENV="$PWD/$place" .venv/bin/uv pip install --quiet --no-deps --require-hashes -r requirements-dev.lock
  VIRTUAL_ENV="$PWD/$place" .venv/bin/uv pip install --quiet --no-deps --no-build-isolation -e .
  if "$place/bin/python" -m pytest --numprocesses auto --dist loadfile -m "not pipeline and not slow and not team"; then
    echo "$python: passed"
  else
    echo "$python: failed"
    failed=1
  fi
done
exit $failed
