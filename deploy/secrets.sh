#!/bin/sh
# Make what is missing of the keys that docker-compose.yml hands out as files; change nothing that is there.
#
#   deploy/secrets.sh [FOLDER]      (deploy/secrets)
#
# api_keys.txt and admin_keys.txt hold hashes; the keys themselves are printed now and never again.
# prometheus_key.txt holds the key with which Prometheus scrapes, and metrics_keys.txt its hash.
set -eu
folder=${1:-$(dirname "$0")/secrets}
mkdir -p "$folder"
# Others on this machine stay out; within, the containers' users (10001, 65534) must be able to read.
chmod 700 "$folder"
umask 022

new_key() { printf 'momok_%s' "$(head -c 32 /dev/urandom | base64 | tr '+/' '-_' | tr -d '=\n')"; }
line() { printf '%s:%s\n' "$1" "$(printf %s "$2" | sha256sum | cut -d ' ' -f 1)"; }

make_file() { # file, name: a file of one key, which is printed
  [ ! -e "$folder/$1" ] || return 0
  key=$(new_key)
  line "$2" "$key" > "$folder/$1"
  echo "$1: the key of $2, shown only now: $key"
}

make_file api_keys.txt operator
make_file admin_keys.txt admin
if [ ! -e "$folder/prometheus_key.txt" ]; then
  key=$(new_key)
  # The key of a lost file is of no use any more.
  line prometheus "$key" > "$folder/metrics_keys.txt"
  printf '%s\n' "$key" > "$folder/prometheus_key.txt"
fi
