#!/usr/bin/env bash
# Build the image, run it on a bundle, ask it, scrape it and stop it; for machines without a Docker engine.
#
#   deploy/verify.sh BUNDLE
#
# Needs root, buildah, curl, python3 and, the first time, debootstrap for a stand-in of the base image. Environment:
#   BUILD_FLAGS  more words for `buildah bud`, such as what pip needs to reach its packages:
#                "-v /etc/pip.conf:/etc/pip.conf:ro -v /etc/ssl/certs:/etc/ssl/certs:ro"
#   BASE_IMAGE   another base than the stand-in
#   STORAGE      where its images lie, apart from yours (/var/tmp/momok-verify); the stand-in stays there for the next
#                run. One run at a time.
#   LIMIT_S      seconds after which all of it is given up (1800)
#   KEEP=1       keep the image too
set -euo pipefail
[[ -n ${BOUNDED:-} ]] || BOUNDED=1 exec timeout --kill-after=60 "${LIMIT_S:-1800}" "$0" "$@"
export BUILDAH_ISOLATION=chroot

bundle=$(realpath "${1:?usage: deploy/verify.sh BUNDLE}")
source=$(realpath "$(dirname "$0")/..")
storage=${STORAGE:-/var/tmp/momok-verify}
base=${BASE_IMAGE:-localhost/momok-base}
image=localhost/momok-verify
buildah=(buildah --storage-driver vfs --root "$storage" --runroot "$storage/run")
work=$(mktemp -d)
server=

clean_up() {
  # The process in the container, then the one around it.
  [[ -z $server ]] || kill -KILL "$(innermost "$server")" "$server" 2> /dev/null || true
  "${buildah[@]}" rm --all > /dev/null || true
  [[ -n ${KEEP:-} ]] || "${buildah[@]}" rmi "$image" > /dev/null 2>&1 || true
  rm -rf "$work"
}
trap clean_up EXIT

innermost() {
  local pid=$1 child
  while child=$(pgrep --oldest --parent "$pid"); do pid=$child; done
  echo "$pid"
}

of_image() { "${buildah[@]}" inspect --type image --format "$1" "$image"; }

fetch() { curl --noproxy '*' --max-time 10 --fail --silent --show-error "$@"; }

first_key() { fetch "$1" | sed -E 's/^[^[]*\[\{"key":"([^"]*)".*/\1/'; }

since() { awk "BEGIN {printf \"%.1f s\", $(date +%s.%N) - $1}"; }

if [[ -z ${BASE_IMAGE:-} ]] && ! "${buildah[@]}" inspect --type image "$base" > /dev/null 2>&1; then
  debootstrap --variant=minbase --include=ca-certificates,python3,python3-pip,python3-venv \
    bookworm "$work/base" > "$work/log" || { tail "$work/log"; exit 1; }
  container=$("${buildah[@]}" from scratch)
  "${buildah[@]}" copy --quiet "$container" "$work/base" / > /dev/null
  "${buildah[@]}" commit --quiet --rm "$container" "$base" > /dev/null
fi

started=$(date +%s.%N)
# The docker format holds the health check; BUILD_FLAGS is a list of words.
# shellcheck disable=SC2086
"${buildah[@]}" bud --quiet --format docker --build-arg BASE_IMAGE="$base" ${BUILD_FLAGS:-} \
  -t "$image" "$source" > /dev/null
echo "built in $(since "$started"): $("${buildah[@]}" images --format '{{.Size}}' "$image")"

# The image's own command, user and environment; only the port is ours, as the host's network is shared.
{ of_image '{{range .OCIv1.Config.Entrypoint}}{{println .}}{{end}}'
  of_image '{{range .OCIv1.Config.Cmd}}{{println .}}{{end}}'; } > "$work/command"
mapfile -t command < <(grep . "$work/command")
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("", 0)); print(s.getsockname()[1])')
url=http://127.0.0.1:$port
container=$("${buildah[@]}" from "$image")
started=$(date +%s.%N)
"${buildah[@]}" run --cap-drop ALL -v "$bundle:/bundle:ro" "$container" -- \
  "${command[@]}" --port "$port" > "$work/log" 2>&1 &
server=$!
until fetch "$url/readyz" > /dev/null 2>&1; do
  kill -0 "$server" 2> /dev/null || { cat "$work/log"; exit 1; }
  sleep 0.1
done
echo "ready after $(since "$started")"

pid=$(innermost "$server")
[[ $(awk '/^Uid:/ {print $2, $3}' "/proc/$pid/status") == "10001 10001" ]]
check=$(of_image '{{index .Docker.Config.Healthcheck.Test 3}}')
"${buildah[@]}" run "$container" -- python3 -c "${check/8000/$port}"
query="{\"head\": \"$(first_key "$url/v1/entities")\", \"relation\": \"$(first_key "$url/v1/relations")\"}"
fetch "$url/v1/predict" -H 'Content-Type: application/json' -d "{\"queries\": [$query]}" > "$work/answer"
grep -q '"rank":1,' "$work/answer"
fetch "$url/metrics" > "$work/metrics"
grep -q '^momok_queries_total 1' "$work/metrics"

kill -TERM "$pid"
wait "$server"
server=
# What it wrote would be its user's; a read-only root takes nothing.
written=$(find "$("${buildah[@]}" mount "$container")" -xdev -uid 10001)
[[ -z $written ]] || { echo "written at run time: $written"; exit 1; }
echo "answered $query, healthy, scraped, stopped with 0, and wrote nothing"
