#!/bin/sh
# Part of the image's build: an environment with the packages of a lock, without what only who compiles or tests them needs.
#
#   packages.sh LOCK ENVIRONMENT      (EXTRA_INDEX_URL: a further index of wheels)
set -eu
lock=$1
environment=$2
[ -e "$environment" ] || python3 -m venv --without-pip "$environment"
python3 -m pip --python "$environment/bin/python" --disable-pip-version-check install --quiet --no-cache-dir \
  --no-compile --no-deps --require-hashes --only-binary :all: -r "$lock" \
  ${EXTRA_INDEX_URL:+--extra-index-url "$EXTRA_INDEX_URL"} || {
  echo "If it was torch that had no such version: cpu.txt wants its CPU build, which not every index has." >&2
  echo "Name one that does: --build-arg EXTRA_INDEX_URL=…" >&2
  exit 1
}

cd "$environment"/lib/python3*/site-packages
# C++ headers, build systems and stubs; of torch's programs it looks for one when it is imported.
rm -rf torch/include torch/share setuptools setuptools-* _distutils_hack distutils-precedence.pth
find torch/bin -type f ! -name torch_shm_manager -delete
find . -type d \( -name tests -o -name test \) -prune -exec rm -rf {} +
find . -name '*.pyi' -delete -o -name '*.a' -delete -o -name '*.pxd' -delete

# Bytecode of what a server imports: without it a read-only root would compile all of that at each start, and bytecode
# of everything is a sixth of the image.
"$environment/bin/python" -c 'import faiss, fastapi, fastapi_offline, httptools, prometheus_client, pydantic
import safetensors.torch, torch, tqdm, uvicorn, uvloop
import uvicorn.lifespan.on, uvicorn.protocols.http.httptools_impl'
