#!/usr/bin/env bash
# From nothing to numbers on real photographs in minutes, on any CPU or GPU: makes .venv, builds a small benchmark
# from the images inside scikit-image, trains a reduced SSIU on the others and scores it beside bicubic.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/environment.sh
environment -e .
exec ssiu quickstart "$@"
