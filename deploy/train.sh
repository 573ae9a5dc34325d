#!/bin/sh
# Train on a dataset, export a bundle, and have it served: the service watches the link that is turned at the end.
#
#   docker compose run --rm train /data/DATASET [more words for `momok train`]
#
# Environment: MOMOK_RECIPE (a recipe's file), NAME (of run and bundle; the time), RUNS (/runs), BUNDLES (/bundles).
# What was interrupted goes on with the same NAME.
set -eu
dataset=${1:?usage: train.sh DATASET [more words for momok train]}
shift
name=${NAME:-$(date -u +%Y%m%dT%H%M%SZ)}
runs=${RUNS:-/runs}
bundles=${BUNDLES:-/bundles}

if [ -e "$runs/$name" ]; then
  momok train --resume --out "$runs/$name"
else
  momok train "$dataset" ${MOMOK_RECIPE:+--config "$MOMOK_RECIPE"} --out "$runs/$name" "$@"
fi
momok export "$runs/$name" "$bundles/$name"
momok check "$bundles/$name"
# In one step: a link is never half turned.
ln -sfn "$name" "$bundles/.$name.link"
mv -T "$bundles/.$name.link" "$bundles/current"
echo "$bundles/current leads to $name"
