"""A training set whose HR images are what a network, the teacher, makes of the LR images of another set."""

import hashlib
import json
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from ssiu.data.catalog import SETS, known_name, usual_name
from ssiu.data.layouts import SetFolders, image_files
from ssiu.data.links import place
from ssiu.data.pairs import CARD, VALIDATION, pairs_of_folders
from ssiu.data.prepare import is_done
from ssiu.errors import BadInputError, ConfigError, OutputError, first_names
from ssiu.files import held, make_folder, write_atomically
from ssiu.inference.batch import Report, upscale_files
from ssiu.inference.jobs import Job
from ssiu.inference.upscaler import Upscaler
from ssiu.models.base import SRNetwork
from ssiu.weights.hub import is_on_hub, local_file, plain_name

SETTINGS = ("sha256", "network", "scale", "self_ensemble", "precision")  # of a card; these decide about the images


@dataclass(frozen=True)
class Teacher:
    """A network, the file it is from, and what is said about that file; it upscales as ``upscaler`` does."""

    file: Path
    model: SRNetwork
    upscaler: Upscaler
    licence: str | None = None
    source: str | None = None

    def card(self, student: SetFolders, images: int) -> dict[str, Any]:
        """What a reader has to know of the set, for JSON."""
        return {
            "teacher": str(self.file) if is_on_hub(self.file) else self.file.name,
            "sha256": hashlib.sha256(local_file(self.file).read_bytes()).hexdigest(),
            "network": self.model.architecture,
            "licence": self.licence,
            "source": self.source,
            "scale": self.upscaler.scale,
            "self_ensemble": self.upscaler.self_ensemble,
            "precision": self.upscaler.precision,
            "lr_images_of": student.name,
            "images": images,
            "date": date.today().isoformat(),
        }


def taught_folder(student: SetFolders, teacher: Teacher) -> Path:
    """Where the set goes: beside that of the student, named after both."""
    root = student.hr.parent
    return root.with_name(f"{root.name}_{plain_name(teacher.file)}" + "_ensemble" * teacher.upscaler.self_ensemble)


def refuse_evaluation_set(set_name: str) -> None:
    """ConfigError (78) for a test set, or one that was held out: what a network learned there is worth nothing."""
    known = SETS.get(usual_name(known_name(set_name)))
    if set_name.endswith(VALIDATION) or (known and known.use != "training"):
        raise ConfigError(f"--teacher: {set_name} is for evaluation and is never taught; name a training set")


def teach(student: SetFolders, teacher: Teacher, copy: bool = False) -> tuple[Path, Report]:
    """Makes the set of `taught_folder`: ``HR`` by the teacher, ``LR_bicubic/X{s}`` linked or copied, and `CARD`.

    SR images that are there, newer than their LR image and of the right size, are kept, so an interrupted run can be
    repeated, also after new images came to ``student``. Returns the folder and what was done.

    Raises MissingInputError (66) where ``student`` has no LR images of the scale, ConfigError (78) for a set for
    evaluation, OutputError (73) where the folder holds images of another teacher or setting, or others, BadInputError
    (65) naming images that could not be upscaled after all the others were, SaveError (74), BusyError (75) while
    another process writes there, DeviceMemoryError (69).
    """
    refuse_evaluation_set(student.name)
    scale = teacher.upscaler.scale
    pairs = pairs_of_folders(student.hr, student.lr(scale), scale)
    folder = taught_folder(student, teacher)
    hr, lr = make_folder(folder / "HR"), folder / f"LR_bicubic/X{scale}"
    with held(folder / ".lock", folder, f"{folder}: another teacher writes there; wait for it", "--output"):
        _write_card(folder, teacher.card(student, len(pairs)))
        sources = {pair: pair.lr for pair in pairs if pair.lr}
        place({(Path(pair.name).parent / source.stem).as_posix(): source for pair, source in sources.items()}, lr, copy)
        targets = {pair: hr / f"{pair.name}.png" for pair in pairs}
        if others := sorted(
            {Path(file).name for _, file in image_files(hr)} - {file.name for file in targets.values()}
        ):
            raise OutputError(
                f"{hr} holds images that {student.name} does not have: {first_names(others)}; remove them"
            )
        jobs = []
        for pair, target in targets.items():
            make_folder(target.parent)
            source = sources[pair]
            if not is_done(target, source, (pair.lr_size[0] * scale, pair.lr_size[1] * scale)):
                jobs.append(Job(source, target))
        report = upscale_files(teacher.upscaler, jobs, hr, overwrite=True)
    if report.failed:
        raise BadInputError(f"{len(report.failed)} of {len(jobs)} images could not be upscaled; {report.failed[0]}")
    return folder, report


def _write_card(folder: Path, card: dict[str, Any]) -> None:
    """Refuses a folder of another teacher; what an earlier call was told of this one's licence and source is kept."""
    path = folder / CARD
    if path.exists():
        try:
            earlier = json.loads(path.read_text(encoding="utf-8"))
            differing = [key for key in SETTINGS if earlier[key] != card[key]]
            card |= {key: card[key] or earlier[key] for key in ("licence", "source")}
        except (AttributeError, KeyError, TypeError, ValueError):
            raise BadInputError(f"{path} is not a card of a taught set; move {folder} away") from None
        if differing:
            changes = ", ".join(f"{key} {earlier[key]!s:.12}, not {card[key]!s:.12}" for key in differing)
            raise OutputError(f"{folder} is by another teacher ({changes}); remove it, or rename the teacher's file")
    elif image_files(folder / "HR"):
        raise OutputError(f"{folder} holds images that no teacher made; choose another --output")
    write_atomically(path, (json.dumps(card, indent=2) + "\n").encode())
