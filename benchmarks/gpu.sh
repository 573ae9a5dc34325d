#!/usr/bin/env bash
# On a machine with a GPU: the tests that need one, retrieval, step times, then the paper's 2,000 epochs on
# MKG-W, MKG-Y and DB15K. With the package faiss-gpu in place of faiss-cpu its indexes lie on the GPU too.
#   benchmarks/gpu.sh [DIRECTORY]     DATA names the graphs (default ../shared/data), EPOCHS and DEVICE may be changed
# A dry run without a GPU: DEVICE=cpu ENTITIES=2000 EPOCHS=1 STEPS=1 benchmarks/gpu.sh /tmp/dry
set -euo pipefail
cd "$(dirname "$0")/.."
out=${1:-build/gpu}
data=${DATA:-../shared/data}
device=${DEVICE:-cuda}
epochs=${EPOCHS:-2000}
PATH=$PWD/.venv/bin:$PATH
mkdir -p "$out"

pytest -q tests/model/test_gpu.py
for entities in ${ENTITIES:-15000 1000000}; do
  python benchmarks/retrieval.py --entities "$entities" --device "$device" --json | tee -a "$out/retrieval.jsonl"
done
python benchmarks/gpu.py --device "$device" --steps "${STEPS:-50}" --json | tee "$out/steps.jsonl"
for graph in MKG-W MKG-Y DB15K; do
  holdout=()
  # DB15K's own valid split lies in train and test: a new one is drawn from train.
  [[ $graph == DB15K ]] && holdout=(--holdout 0.1 --seed 7)
  [[ -d $out/$graph ]] || momok import "$data/$graph" "$out/$graph" --layout openke \
    --features "text=$data/$graph/name_text.safetensors" "${holdout[@]}"
  momok train "$out/$graph" --config configs/momok-mkg-y.toml --device "$device" --out "$out/$graph-run" \
    --set training.batch_size=1024 --set "training.max_epochs=$epochs" --set training.max_minutes=none \
    --set training.patience=1000000 --set training.validate_every=5
  momok evaluate "$out/$graph-run" --split test --device "$device" --json > "$out/$graph-test.json"
done
