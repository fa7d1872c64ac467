#!/usr/bin/env bash
# Replaces SSIU's weights in pretrain_model/ by its own from photographs: x2 from scratch, x3 and x4 from its trunk.
# Stop it at any time; the same command goes on.     bash scripts/pretrain.sh PHOTOS [key=value ...]
# On a GPU with the paper's batches:                 bash scripts/pretrain.sh PHOTOS batch_size=40 threads=8
set -euo pipefail
photos=$(realpath "${1:?usage: bash scripts/pretrain.sh PHOTOS [key=value ...]}")
shift
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# every 32nd photograph, in the order of names, is kept out of training for validation
mkdir -p pretrain/split/photos pretrain/split/photos_val
index=0
while IFS= read -r name; do
    set_name=photos
    [ $((index % 32)) -eq 16 ] && set_name=photos_val
    ln -sf "$photos/$name" "pretrain/split/$set_name/$name"
    index=$((index + 1))
done < <(LC_ALL=C ls "$photos")
for set_name in photos photos_val; do
    python -m ssiu prepare "pretrain/split/$set_name" --output "pretrain/data/$set_name" --scales 2 3 4
done

for scale in 2 3 4; do
    python train.py --config "configs/pretrain/SSIU_x$scale.yml" --resume auto "$@"
done
for scale in 2 3 4; do # all at once and only now: what is shipped is of one piece
    python -m ssiu export safetensors "pretrain/SSIU_x$scale/models/last.pt" "pretrain_model/SSIU_x$scale.safetensors"
done
