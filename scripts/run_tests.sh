#!/usr/bin/env bash
# Sets up .venv and runs the tests; arguments go to pytest:  bash scripts/run_tests.sh -k bicubic
# With -m 'not full and not gpu' it runs the slow ones, too, as CI does.
# SSIU_TEST_DATA names a folder with data/ and reference/ for the tests that need photographs.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/environment.sh
environment -e '.[dev]'
# without its torchvision, which does not load beside the CPU build of torch: tests/helpers has a stand-in
python -m pip show --quiet spandrel 2>/dev/null ||
    python -m pip install --quiet --disable-pip-version-check --no-deps spandrel==0.4.2 typing_extensions
# three files at a time, since many tests wait for what they started; in the order of tests/conftest.py
exec python -m pytest -n 3 --dist loadfile --no-loadscope-reorder "$@"
