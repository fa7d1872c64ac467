"""Scores a network on the test sets of a YAML config and writes the images, the numbers and a page to look at.

python test.py --config configs/SSUFSR_light_x4.yml
python test.py --config configs/SSUFSR_light_x4.yml 'eval_sets=[Set5]' pretrain=model_x4_290.pt --output results/theirs

The same as `ssiu test` of an installed package; the command itself is in ssiu/cli/test.py.
"""

from ssiu.cli import entry_point

if __name__ == "__main__":
    entry_point("test")
