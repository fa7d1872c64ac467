"""Trains a super-resolution network from a YAML config.

python train.py --config configs/SSUFSR_light_x2.yml
python train.py --config configs/SSUFSR_light_x2.yml batch_size=16 log_name=small --resume auto

The same as `ssiu train` of an installed package; the command itself is in ssiu/cli/train.py.
"""

from ssiu.cli.train import main
from ssiu.errors import run_cli

if __name__ == "__main__":
    run_cli(main)
