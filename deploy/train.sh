#!/bin/sh
# Train on a dataset, export a bundle, and have it served: the service watches the link that is turned at the end.
#
#   docker compose run --rm train /data/DATASET [more words for `momok train`]
#
# Environment: MOMOK_RECIPE (a recipe's file), NAME (of run and bundle; the time), RUNS (/runs), BUNDLES (/bundles).
# What was interrupted goes on with the same NAME, wherever it was: in training (with its dataset and recipe; of the
# words, --set may change how long), before the export, or before the link was turned.
set -eu
dataset=${1:?usage: train.sh DATASET [more words for momok train]}
shift
name=${NAME:-$(date -u +%Y%m%dT%H%M%SZ)}
runs=${RUNS:-/runs}
bundles=${BUNDLES:-/bundles}

refuse() {
  echo "train.sh: $1; choose another NAME" >&2
  exit 2
}

if [ -e "$runs/$name" ]; then
  echo "$runs/$name goes on with the dataset and the recipe that it began with"
  momok train --resume --out "$runs/$name" "$@"
elif [ -e "$bundles/$name" ]; then
  refuse "$bundles/$name is the bundle of no run in $runs"
else
  momok train "$dataset" ${MOMOK_RECIPE:+--config "$MOMOK_RECIPE"} --out "$runs/$name" "$@"
fi
if [ ! -e "$bundles/$name" ]; then
  momok export "$runs/$name" "$bundles/$name"
elif [ "$runs/$name/best.safetensors" -nt "$bundles/$name/manifest.json" ]; then
  refuse "$runs/$name has learned since $bundles/$name was exported"
fi
momok check "$bundles/$name"
# In one step: a link is never half turned.
ln -sfn "$name" "$bundles/.$name.link"
mv -T "$bundles/.$name.link" "$bundles/current"
echo "$bundles/current leads to $name"
