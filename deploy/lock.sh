#!/bin/sh
# Write deploy/locks/: the image's packages, each with its version and the hashes of its files. Python 3.11, Linux on x86-64.
#
# Needs uv. UV_FIND_LINKS or UV_EXTRA_INDEX_URL lead to CPU builds of torch: cpu.txt names such a build, so that a
# package index without it cannot bring CUDA into the cpu target.
set -eu
cd "$(dirname "$0")/.."
mkdir -p deploy/locks
constraints=$(mktemp)
trap 'rm -f "$constraints"' EXIT

lock() { # name, then the extras
  name=$1
  shift
  # shellcheck disable=SC2068
  uv pip compile --quiet --generate-hashes --no-header --no-annotate --no-emit-index-url --no-emit-find-links \
    --python-version 3.11 --python-platform x86_64-manylinux_2_28 --constraint "$constraints" \
    --output-file "deploy/locks/$name.txt" pyproject.toml $@
}

sed 's/^torch==[0-9.]*$/&+cpu/' constraints.txt > "$constraints"
lock cpu --extra cpu
lock demo --extra cpu --extra demo
cp constraints.txt "$constraints"
unset UV_FIND_LINKS UV_EXTRA_INDEX_URL
lock gpu --extra gpu
