#!/usr/bin/env bash
# What only a GPU can show, in ten minutes or so: the races of docs/performance.md, whole training runs in every precision,
# compiled or not, and that a stopped run resumes to the same weights. Prints tables and log lines and leaves them in OUT.
#     bash scripts/gpu_checks.sh DATA_PATH TRAINING_SET OUT [key=value ...]
set -euo pipefail
data=$(realpath "$1") name=$2
mkdir -p "$3"
out=$(realpath "$3")
shift 3
cd "$(dirname "${BASH_SOURCE[0]}")/.."
run=(python train.py --config configs/SSUFSR_light_x4.yml "data_path=$data" "training_dataset=$name" "log_path=$out/runs"
    test_every=0 eval_sets=[] log_every=50 save_every=100000 "$@")

benchmark() { # name, subcommand and options
    python -m ssiu benchmark "${@:2}" --json "$out/$1.json" --markdown "$out/$1.md"
}
benchmark table2 inference --table2 device=cuda
benchmark sizes inference --size 64 64 --size 320 180 --size 1024 1024 --contestants prepared,prepared-bf16 \
    tile=auto device=cuda
benchmark train train device=cuda "$@"
benchmark train_checkpointed train checkpoint_activations=true device=cuda "$@"

for precision in fp32 tf32 bf16 fp16; do
    for compile in false true; do
        "${run[@]}" "log_name=$precision-$compile" "precision=$precision" "compile=$compile" max_iterations=200 |
            grep -E '^(device|step 200/|finished)' | sed "s/^/$precision compile=$compile  /" | tee -a "$out/speed.txt"
    done
done

for log_name in whole parts; do
    [ "$log_name" = parts ] && { timeout --signal=TERM 25 "${run[@]}" log_name=parts deterministic=true \
        max_iterations=300 >"$out/parts.txt" || true; }
    "${run[@]}" "log_name=$log_name" deterministic=true max_iterations=300 --resume auto >"$out/$log_name.txt"
done
python - "$out" <<'PYTHON'
import sys
from pathlib import Path
from ssiu.weights import read_weights

whole, parts = (read_weights(Path(sys.argv[1]) / "runs" / name / "models/last.pt").sha256 for name in ("whole", "parts"))
print("resumed run:", "bit-identical" if whole == parts else f"DIFFERS: {whole} {parts}")
sys.exit(whole != parts)
PYTHON
