"""Scores a network on the test sets of a YAML config and writes the pictures, the numbers and a page to look at.

python test.py --config configs/SSUFSR_light_x4.yml
python test.py --config configs/SSUFSR_light_x4.yml 'eval_sets=[Set5]' pretrain=model_x4_290.pt --output results/theirs

The command itself is in ssiu/commands/test.py, so that `pip install` has it too, as ssiu-test.
"""

from ssiu.commands.test import main
from ssiu.errors import run_cli

if __name__ == "__main__":
    run_cli(main)
