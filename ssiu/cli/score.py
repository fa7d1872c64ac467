"""Computes PSNR and SSIM of a folder of SR images, made by any method.

ssiu score results/SSIU_x4/images/Set5 data/benchmark/Set5/HR --scale 4 --json set5.json
ssiu score basicsr/results/IMDN/visualization/Set5 data/benchmark/Set5/HR --scale 4 --suffix _IMDN --csv imdn.csv
"""

from collections.abc import Sequence
from pathlib import Path

from ssiu.cli.console import command_parser
from ssiu.evaluation.metrics import KNOWN, PROTOCOLS
from ssiu.evaluation.score_folders import score_folders
from ssiu.files import make_folder, nonempty_path, write_atomically
from ssiu.report.results import summary_json
from ssiu.report.tables import score_table


def main(argv: Sequence[str]) -> None:
    parser = command_parser("score", __doc__)
    parser.add_argument("sr", type=Path, metavar="SR_DIR", help="images named NAME, NAMEx4 or NAME_x4")
    parser.add_argument("hr", type=Path, metavar="HR_DIR", help="their originals, named NAME")
    parser.add_argument("--scale", type=int, required=True, choices=(2, 3, 4), help="upscaling factor")
    parser.add_argument("--model", help="the method's name in the output; default: the name of SR_DIR")
    parser.add_argument(
        "--json", type=nonempty_path, metavar="F", help="also write the numbers to F, as test.py's summary.json"
    )
    parser.add_argument(
        "--csv", type=nonempty_path, metavar="F", help="also write every image's numbers, for ssiu compare"
    )
    parser.add_argument("--suffix", default="", metavar="TEXT", help="end of the file names in SR_DIR, such as _IMDN")
    parser.add_argument(
        "--float", dest="protocols", action="store_const", const=KNOWN, default=PROTOCOLS,
        help="also by the protocol float (docs/protocol.md)",
    )  # fmt: skip
    args = parser.parse_args(argv)
    model = args.model or args.sr.absolute().name
    for path in filter(None, (args.json, args.csv)):
        make_folder(path.parent)
    evaluation = score_folders(args.sr, args.hr, args.scale, args.protocols, args.suffix)
    print(score_table(f"{model} x{args.scale}, {args.sr}", evaluation).text())
    if args.json:
        write_atomically(args.json, summary_json(evaluation.summary(model=model, scale=args.scale)))
    if args.csv:
        write_atomically(args.csv, evaluation.per_image_csv().encode())
