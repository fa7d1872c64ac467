#!/usr/bin/env bash
# Replaces SSIU's weights in pretrain_model/ by its own from photographs: x2 from scratch, x3 and x4 from its trunk.
# Stop it at any time; the same command goes on.     bash scripts/pretrain.sh PHOTOS [key=value ...]
# On a GPU with the paper's batches:                 bash scripts/pretrain.sh PHOTOS batch_size=40 threads=8
set -euo pipefail
photos=$(realpath "${1:?usage: bash scripts/pretrain.sh PHOTOS [key=value ...]}")
shift
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# pretrain/data/photos and photos_val; the shipped weights held out every 32nd of 644, nearly the same ones
python -m ssiu prepare "$photos" --output pretrain/data/photos --scales 2 3 4 --holdout 20

for scale in 2 3 4; do
    python train.py --config "configs/pretrain/SSIU_x$scale.yml" --resume auto "$@"
done
for scale in 2 3 4; do # all at once and only now: what is shipped is of one piece
    python -m ssiu export safetensors "pretrain/SSIU_x$scale/models/last.pt" "pretrain_model/SSIU_x$scale.safetensors"
done
echo "say in pretrain_model/zoo.json how they were made; then: python -m ssiu zoo --update --data DATA"
