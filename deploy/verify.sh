#!/usr/bin/env bash
# Build the image, run it as its user on a bundle, ask it, scrape it, and see it stop cleanly; without a Docker engine.
#
#   deploy/verify.sh BUNDLE
#
# Needs root, buildah, curl and, the first time, debootstrap for a stand-in of the base image. What your pip needs to
# reach its packages goes into BUILD_FLAGS, such as
#   BUILD_FLAGS="-v /etc/pip.conf:/etc/pip.conf:ro -v /etc/ssl/certs:/etc/ssl/certs:ro"
set -euo pipefail
export STORAGE_DRIVER=vfs BUILDAH_ISOLATION=chroot

bundle=$(realpath "${1:?usage: deploy/verify.sh BUNDLE}")
base=${BASE_IMAGE:-localhost/momok-base}
root=$(realpath "$(dirname "$0")/..")
port=${PORT:-18080}
url=http://127.0.0.1:$port
work=$(mktemp -d)
server=
container=

clean_up() {
  [[ -z $server ]] || kill -KILL "$server" 2> /dev/null || true
  [[ -z $container ]] || buildah rm "$container" > /dev/null
  rm -rf "$work"
}
trap clean_up EXIT

if ! buildah inspect --type image "$base" > /dev/null 2>&1; then
  debootstrap --variant=minbase --include=python3,python3-venv,python3-pip,ca-certificates bookworm "$work/base" > /dev/null
  scratch=$(buildah from scratch)
  buildah copy --quiet "$scratch" "$work/base" / > /dev/null
  buildah commit --quiet --rm "$scratch" "$base" > /dev/null
fi

# BUILD_FLAGS is a list of words.
# shellcheck disable=SC2086
buildah bud --quiet --format docker --build-arg BASE_IMAGE="$base" ${BUILD_FLAGS:-} -t momok "$root"
container=$(buildah from momok)

started=$(date +%s.%N)
buildah run --user 10001 -v "$bundle:/bundle:ro" "$container" -- \
  momok serve /bundle --port "$port" > "$work/log" 2>&1 &
server=$!
for _ in $(seq 300); do
  curl -fsS "$url/readyz" > /dev/null 2>&1 && break
  kill -0 "$server" || { cat "$work/log"; exit 1; }
  sleep 0.2
done
echo "ready after $(awk "BEGIN {print $(date +%s.%N) - $started}") s"

key=$(curl -fsS "$url/v1/entities?limit=1" | sed 's/.*"key":"\([^"]*\)".*/\1/')
relation=$(curl -fsS "$url/v1/relations" | sed 's/^{"relations":\[{"key":"\([^"]*\)".*/\1/')
curl -fsS "$url/v1/predict" -H 'Content-Type: application/json' \
  -d "{\"queries\": [{\"head\": \"$key\", \"relation\": \"$relation\"}], \"k\": 3}" | grep -q '"exact":true'
curl -fsS "$url/metrics" | grep -q '^momok_queries_total 1.0'

pid=$(pgrep -f "momok serve /bundle --port $port" | tail -n 1)
[[ $(awk '/^Uid:/ {print $2}' "/proc/$pid/status") == 10001 ]]
kill -TERM "$pid"
wait "$server"
server=
echo "built, ready, answered, scraped and stopped cleanly"
