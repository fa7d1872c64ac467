# Sourced by quickstart.sh and run_tests.sh: makes .venv in the repository once and activates it.
# usage: environment PIP_ARGUMENTS...   (installs again only when the requirements changed)
environment() {
    local python=${PYTHON:-python3} stamp
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
        { echo "error: Python 3.11 or newer is needed; set PYTHON=/path/to/python3.11" >&2; exit 69; }
    stamp=$(cat requirements.txt pyproject.toml <(echo "$*") | cksum)
    [[ -x .venv/bin/python && -f .venv/bin/activate ]] || "$python" -m venv .venv
    # shellcheck disable=SC1091
    source .venv/bin/activate
    if [ "$(cat .venv/installed 2>/dev/null)" != "$stamp" ]; then
        if [ "$(uname)" = Linux ] && ! command -v nvidia-smi >/dev/null && ! python -c 'import torch' 2>/dev/null; then
            echo "no NVIDIA GPU here, but pip may fetch torch with CUDA (gigabytes); for the small one stop now (Ctrl-C)," \
                "run: .venv/bin/pip install $(grep '^torch==' requirements.txt)" \
                "--index-url https://download.pytorch.org/whl/cpu and then this command again" >&2
        fi
        # torch first and by itself, so that nothing that asks for a range of it fetches another build
        python -m pip install --quiet --disable-pip-version-check "$(grep '^torch==' requirements.txt)"
        python -m pip install --quiet --disable-pip-version-check -r requirements.txt "$@"
        echo "$stamp" >.venv/installed
    fi
}
