"""The weights that come with this project, as `zoo.json` beside them describes them: all cards and tables are of it."""

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ssiu.errors import ConfigError, MissingInputError, first_line
from ssiu.weights.shipped import SHIPPED, shipped_file

ZOO = "zoo.json"
Sha256 = Annotated[str, Field(pattern=r"^([0-9a-f]{64})?$")]


class Entry(BaseModel):
    """A part of the zoo; an unknown key is an error."""

    model_config = ConfigDict(extra="forbid")


class MeanScore(Entry):
    """Means over a test set: PSNR in dB, and SSIM, of luma."""

    psnr: float
    ssim: float


Scores = dict[str, MeanScore]  # by test set


class DataSet(Entry):
    """Images that networks were trained on."""

    licence: str
    url: str


class Described(Entry):
    """A file of weights. What stands last is computed, by `ssiu zoo --update` for those of the zoo.

    ``from_weights`` is the file it was fine-tuned from, or whose trunk it began with. ``data`` is the number of images
    of each data set. ``licence`` is an SPDX identifier, or a name of its own. ``scores`` are by protocol.
    """

    file: str
    date: str = ""
    summary: str = ""
    training: str = ""
    config: str = ""
    metrics: str = ""
    iterations: int = 0
    from_weights: str = ""
    data: dict[str, int] = {}
    licence: str = ""
    remarks: str = ""
    architecture: str = ""
    scale: int = 0
    parameters: int = 0
    bytes: int = 0
    sha256: Sha256 = ""
    tensors_sha256: Sha256 = ""
    scores: dict[str, Scores] = {}

    @property
    def name(self) -> str:
        return Path(self.file).stem


class Zoo(Entry):
    """All shipped weights, the images they learned from, and what bicubic interpolation scores, by scale."""

    data_sets: dict[str, DataSet]
    data_remark: str
    bicubic: dict[int, Scores] = {}
    weights: list[Described]

    def of_tensors(self, sha256: str) -> Described | None:
        """The weights with these tensors."""
        return next((each for each in self.weights if each.tensors_sha256 == sha256), None)

    def to_json(self) -> str:
        return self.model_dump_json(indent=2) + "\n"


def read_zoo() -> tuple[Path, Zoo]:
    """`ZOO` of a clone or the installed package, and what it says; raises MissingInputError (66), ConfigError (78)."""
    path = shipped_file(ZOO)
    if path is None:
        raise MissingInputError(f"no {ZOO} in {', '.join(map(str, SHIPPED))}; install the package again")
    try:
        return path, Zoo.model_validate_json(path.read_bytes())
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        where = ".".join(map(str, problem["loc"])) or "the file"
        raise ConfigError(f"{path}: {where}: {first_line(ValueError(problem['msg']))}") from None
