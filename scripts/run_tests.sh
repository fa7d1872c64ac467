#!/usr/bin/env bash
# Sets up .venv and runs the tests; arguments go to pytest:  bash scripts/run_tests.sh -k bicubic
# SSIU_TEST_DATA names a folder with data/ and reference/ for the tests that need photographs.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/environment.sh
environment -e '.[dev]'
exec python -m pytest "$@"
