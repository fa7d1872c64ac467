"""PSNR and SSIM of a folder of SR pictures, whatever method made them, under both protocols.

python scripts/score.py results/SSIU_x4/images/Set5 data/benchmark/Set5/HR --scale 4 --json set5.json
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ssiu.errors import run_cli
from ssiu.files import make_folder, write_atomically
from ssiu.report.results import summary_json
from ssiu.report.tables import score_table
from ssiu.scoring import score_folders


def main(argv: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sr", type=Path, metavar="SR_DIR", help="pictures named NAME, NAMEx4 or NAME_x4")
    parser.add_argument("hr", type=Path, metavar="HR_DIR", help="their originals, named NAME")
    parser.add_argument("--scale", type=int, required=True, choices=(2, 3, 4), help="pixels shaved off every side")
    parser.add_argument("--model", help="the method's name in the output; default: the name of SR_DIR")
    parser.add_argument("--json", type=Path, metavar="F", help="also write the numbers to F, as test.py's summary.json")
    args = parser.parse_args(argv)
    model = args.model or args.sr.absolute().name
    if args.json:
        make_folder(args.json.parent)
    evaluation = score_folders(args.sr, args.hr, args.scale)
    if args.json:
        write_atomically(args.json, summary_json(evaluation.summary(model=model, scale=args.scale)))
    print(score_table(f"{model} x{args.scale}, {args.sr}", evaluation).text())


if __name__ == "__main__":
    run_cli(main)
