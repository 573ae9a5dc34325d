#!/usr/bin/env bash
# Build the demo target (cpu and the demo's bundle) from a clean clone of HEAD, run it as its own user on a read-only root, ask it, scrape it, end it
# under load; for machines without a Docker engine. Says sizes and times.
#
#   deploy/verify.sh [BUNDLE]        (the demo's, which is in the image)
#
# Needs root, git, buildah, curl, python3 with pip and, the first time, debootstrap for a stand-in of the base image. What pip
# is configured with here holds within the build too. Environment:
#   BASE_IMAGE   another base than the stand-in
#   STORAGE      where its images lie, apart from yours (/var/tmp/momok-verify); the stand-in stays there for the next
#                run. One run at a time.
#   LIMIT_S      seconds after which all of it is given up (1800)
#   KEEP=1       keep the image too
set -euo pipefail
[[ -n ${BOUNDED:-} ]] || BOUNDED=1 exec timeout --kill-after=60 "${LIMIT_S:-1800}" "$0" "$@"
export BUILDAH_ISOLATION=chroot

bundle=${1:+$(realpath "$1")}
source=$(realpath "$(dirname "$0")/..")
storage=${STORAGE:-/var/tmp/momok-verify}
base=${BASE_IMAGE:-localhost/momok-base}
image=localhost/momok-verify
buildah=(buildah --storage-driver vfs --root "$storage" --runroot "$storage/run")
work=$(mktemp -d)
server=

clean_up() {
  # Ending the namespace's first process ends all in it.
  [[ -z $server ]] || kill -KILL "$(innermost "$server")" "$server" 2> /dev/null || true
  "${buildah[@]}" rm --all > /dev/null || true
  [[ -n ${KEEP:-} ]] || "${buildah[@]}" rmi "$image" > /dev/null 2>&1 || true
  rm -rf "$work"
}
trap clean_up EXIT

innermost() {
  local pid=$1 child
  # Process 1 of its namespace: below it there may be others, such as the one that scores.
  while [ "$(awk '/^NSpid:/ {print $NF}' "/proc/$pid/status")" != 1 ] && child=$(pgrep --oldest --parent "$pid"); do
    pid=$child
  done
  echo "$pid"
}

of_image() { "${buildah[@]}" inspect --type image --format "$1" "$image"; }

fetch() { curl --noproxy '*' --max-time 10 --fail --silent --show-error "$@"; }

first_key() { fetch "$1" | sed -E 's/^[^[]*\[\{"key":"([^"]*)".*/\1/'; }

now() { date +%s.%N; }

since() { awk "BEGIN {printf \"%.1f s\", $(now) - $1}"; }

# A pip.conf for the build, and the folders of this machine that it names, as flags of buildah.
pip_flags() {
  python3 -m pip config list | python3 -c '
import re, sys
from pathlib import Path
lines, folders = [], {"/etc/ssl/certs"}
for line in sys.stdin:
    name, _, value = line.strip().partition("=")
    value = value.strip("\x27\"").replace("\\n", " ")
    key = name.replace(":env:", "global").split(".")[-1]
    if name.startswith((":env:", "global.")) and key in ("cert", "index-url", "extra-index-url", "find-links", "default-timeout"):
        lines.append(f"{key} = {value}")
        # An index of files leads to those beside it.
        paths = [Path(path).parent for path in re.findall(r"file://(/[^\s,]+)", value)]
        paths += [Path(path) for path in re.findall(r"(?:^|\s)(/[^\s,]+)", value)]
        folders |= {str(path) for path in paths if path.is_dir()}
Path(sys.argv[1]).write_text("\n".join(["[global]", *dict.fromkeys(lines), ""]))
print(f"-v {sys.argv[1]}:/etc/pip.conf:ro", *(f"-v {folder}:{folder}:ro" for folder in sorted(folders)))
' "$work/pip.conf"
}

if [[ -z ${BASE_IMAGE:-} ]] && ! "${buildah[@]}" inspect --type image "$base" > /dev/null 2>&1; then
  debootstrap --variant=minbase --include=ca-certificates,python3,python3-pip,python3-venv \
    bookworm "$work/base" > "$work/log" || { tail "$work/log"; exit 1; }
  rm -rf "$work"/base/var/cache/apt/archives/*.deb "$work"/base/var/lib/apt/lists/*
  container=$("${buildah[@]}" from scratch)
  "${buildah[@]}" copy --quiet "$container" "$work/base" / > /dev/null
  "${buildah[@]}" commit --quiet --rm "$container" "$base" > /dev/null
  rm -rf "$work/base"
fi

started=$(now)
git clone --quiet --depth 1 "file://$source" "$work/clone"
# The docker format holds the health check; the flags are a list of words.
# shellcheck disable=SC2046
"${buildah[@]}" bud --quiet --format docker --target demo --build-arg BASE_IMAGE="$base" \
  --build-arg REVISION="$(git -C "$work/clone" rev-parse HEAD)" $(pip_flags) -t "$image" "$work/clone" \
  > "$work/log" 2>&1 || { grep -v '^WARNING: Location' "$work/log" | tail -20; exit 1; }
echo "built in $(since "$started"), $("${buildah[@]}" images --format '{{.Size}}' "$image")"

container=$("${buildah[@]}" from "$image")
root=$("${buildah[@]}" mount "$container")
for part in opt/momok opt/momok/lib/python3*/site-packages/{torch,faiss,sympy,numpy} opt/program bundle; do
  # shellcheck disable=SC2086
  (cd "$root" && du --summarize --block-size=1M $part) | awk '{printf "  %6d MB  /%s\n", $1, $2}'
done
[[ ! -e $(find "$root/opt/momok" -path '*nvidia*' -name '*.so*' -print -quit) ]]

# What a container engine does with `--read-only --tmpfs /tmp --cap-drop ALL --security-opt no-new-privileges`, the image's
# user and environment, and process 1; the network is this machine's.
of_image '{{range .OCIv1.Config.Env}}{{println .}}{{end}}' | grep . > "$work/environment"
user=$(of_image '{{.OCIv1.Config.User}}')
cat > "$work/inside" << 'END'
set -eu
root=$1 bundle=$2 user=$3 environment=$4
shift 4
mount --bind "$root" "$root"
mount -o remount,bind,ro "$root"
mount -t tmpfs -o size=64m tmpfs "$root/tmp"
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
[ -z "$bundle" ] || { mount --bind "$bundle" "$root/bundle"; mount -o remount,bind,ro "$root/bundle"; }
while read -r variable; do set -- "$variable" "$@"; done < "$environment"
exec chroot "$root" setpriv --reuid "$user" --regid "$user" --clear-groups --no-new-privs --bounding-set=-all \
  --inh-caps=-all env -i "$@"
END
inside() { unshare --mount --pid --fork --kill-child=KILL sh "$work/inside" "$root" "$bundle" "$user" "$work/environment" "$@"; }

for module in torch momok.service.edge.server; do
  started=$(now)
  inside python3 -c "import $module"
  echo "  import $module: $(since "$started")"
done
if inside sh -c 'echo x > /bundle/x || echo x > /opt/program/x || echo x > /bundles/x' 2> /dev/null; then
  echo "the root is not read-only" && exit 1
fi

# The image's own command; only the port is ours.
{ of_image '{{range .OCIv1.Config.Entrypoint}}{{println .}}{{end}}'
  of_image '{{range .OCIv1.Config.Cmd}}{{println .}}{{end}}'; } > "$work/command"
mapfile -t command < <(grep . "$work/command")
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("", 0)); print(s.getsockname()[1])')
url=http://127.0.0.1:$port
started=$(now)
inside "${command[@]}" --port "$port" > "$work/log" 2>&1 &
server=$!
until fetch "$url/readyz" > /dev/null 2>&1; do
  kill -0 "$server" 2> /dev/null || { cat "$work/log"; exit 1; }
  sleep 0.1
done
echo "ready after $(since "$started")"

pid=$(innermost "$server")
[[ $(awk '/^Uid:/ {print $2, $3}' "/proc/$pid/status") == "10001 10001" ]]
[[ $(awk '/^CapEff:/ {print $2}' "/proc/$pid/status") == 0000000000000000 ]]
echo "  resident: $(awk '/^VmRSS:/ {printf "%d MB", $2 / 1000}' "/proc/$pid/status")"
[[ $(of_image '{{index .Docker.Config.Healthcheck.Test 2}}') == /opt/program/deploy/health.py ]]
# Beside the server, whose process 1 the check looks at.
nsenter --target "$pid" --mount --pid --root --wd env -i PATH=/opt/program/bin:/opt/momok/bin:/usr/bin \
  PYTHONPATH=/opt/program python3 /opt/program/deploy/health.py
query="{\"head\": \"$(first_key "$url/v1/entities")\", \"relation\": \"$(first_key "$url/v1/relations")\"}"
body="{\"queries\": [$query]}"
fetch "$url/v1/predict" -H 'Content-Type: application/json' -d "$body" > "$work/answer"
grep -q '"rank":1,' "$work/answer"
fetch "$url/metrics" > "$work/metrics"
grep -q '^momok_queries_total 1' "$work/metrics"

# Four clients ask without a pause until nobody answers; what was sent before the signal must be answered.
python3 - "$port" "$body" > "$work/load" << 'END' &
import http.client, sys, threading, time
port, body = int(sys.argv[1]), sys.argv[2]
def say(sent, what):
    sys.stdout.write(f"{sent} {what}\n")
    sys.stdout.flush()
def ask():
    while True:
        sent = time.time()
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=40)
        try:
            connection.request("POST", "/v1/predict", body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            whole = b'"rank":1,' in answer.read()
            say(sent, answer.status if whole or answer.status != 200 else "cut")
        except (OSError, http.client.HTTPException) as error:
            say(sent, type(error).__name__)
            return
threads = [threading.Thread(target=ask) for _ in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
END
clients=$!
sleep 2
signalled=$(now)
kill -TERM "$pid"
status=0
wait "$server" || status=$?
server=
wait "$clients"
[[ $status == 0 ]] || { echo "ended with $status"; tail "$work/log"; exit 1; }
# 20 ms for a connection that the system took and the server had not accepted yet.
awk -v at="$signalled" '$1 < at - 0.02 && $2 != 200 {print "lost:", $0; bad = 1} $2 == 200 {n++}
  END {printf "answered %d under load, ended with 0\n", n; exit bad || !n}' "$work/load"
echo "answered $query, healthy, scraped, drained, on a read-only root"
