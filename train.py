"""Trains a super-resolution network from a YAML config.

python train.py --config configs/SSUFSR_light_x2.yml
python train.py --config configs/SSUFSR_light_x2.yml batch_size=16 log_name=small --resume auto

The same as `ssiu train` of an installed package; the command itself is in ssiu/cli/train.py.
"""

from ssiu.cli import entry_point

if __name__ == "__main__":
    entry_point("train")
