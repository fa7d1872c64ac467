"""Upscales your own pictures: python scripts/upscale.py photo.jpg --output photo_x4.png (--help says more)."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ssiu.commands.upscale import main
from ssiu.errors import run_cli

if __name__ == "__main__":
    run_cli(main)
