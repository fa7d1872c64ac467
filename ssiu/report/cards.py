"""What is written about weights: their cards, README's table, cards for the Hugging Face Hub, OpenModelDB's files."""

import hashlib
import json
import textwrap
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from ssiu.errors import BadInputError, MissingInputError
from ssiu.evaluation.metrics import PROTOCOLS, Score
from ssiu.evaluation.scores import NO_SUMMARY, summary_means
from ssiu.models.base import SRNetwork
from ssiu.report.paper.published import published
from ssiu.report.tables import Cell, Table, cell
from ssiu.weights.zoo import DataSet, Described, MeanScore, Scores, Zoo

TEST_CONFIGS = {"SSIU": "configs/SSUFSR_light_x{}.yml", "IDSANet": "configs/idsa_light_x{}.yml"}
FULL_NAMES = {"SSIU": "SSIU", "IDSANet": "IDSA-Net"}
TABLE = ("<!-- made of pretrain_model/zoo.json by ssiu zoo --update -->\n", "<!-- end -->\n")  # around README's table
HUB_LICENCES = {"mit", "apache-2.0", "bsd-3-clause", "cc0-1.0", "cc-by-4.0", "cc-by-sa-4.0", "cc-by-nc-4.0", "gpl-3.0"}


def computed(network: SRNetwork, content: bytes, sha256: str) -> dict[str, Any]:
    """What of a `Described` is computed, but its scores; ``content`` is the file's, ``sha256`` that of its tensors."""
    return {
        "architecture": network.architecture,
        "scale": network.scale,
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "tensors_sha256": sha256,
    }


def kept(means: Mapping[str, Score]) -> Scores:
    """For the zoo's file: six digits are more than is ever printed."""
    return {name: MeanScore(psnr=round(mean.psnr, 6), ssim=round(mean.ssim, 6)) for name, mean in means.items()}


def scores_of(summaries: Iterable[Path], sha256: str) -> dict[str, Scores]:
    """The scores that `ssiu test` wrote into summary.json for the weights with these tensors, in fp32, by protocol.

    Raises MissingInputError (66), and BadInputError (65) for another file, other weights or other settings.
    """
    found: dict[str, Scores] = {}
    for path in summaries:
        try:
            summary = json.loads(path.read_text(encoding="utf-8"))
            means = summary_means(summary)
            run = (summary["weights_sha256"], summary["precision"], summary["self_ensemble"])
        except OSError as error:
            raise MissingInputError(f"{path}: {error.strerror}; expected a summary.json of ssiu test") from None
        except NO_SUMMARY:
            raise BadInputError(f"{path} is not a summary.json of ssiu test") from None
        if run != (sha256, "fp32", False):
            raise BadInputError(f"{path} has scores of other weights, or not the plain ones in fp32; test these first")
        for protocol, sets in means.items():
            found.setdefault(protocol, {}).update(kept(sets))
    return found


def card(weights: Described, data_sets: Mapping[str, DataSet], data_remark: str, bicubic: Scores) -> str:
    """The card of ``weights`` in Markdown; a part of which nothing is known is left out."""
    title = f"{FULL_NAMES.get(weights.architecture, weights.architecture)} x{weights.scale}"
    parts = [f"# {weights.file}", f"{title}, {weights.parameters:,} parameters. {weights.summary}"]
    if weights.training:
        metrics = f"; metrics: `{weights.metrics}`" if weights.metrics else ""
        recipe = f" Recipe: `{weights.config}`{metrics}." if weights.config else ""
        parts.append(f"**Training.** {weights.training}{recipe}")
    if weights.data:
        images = ", ".join(_images(name, number, data_sets) for name, number in weights.data.items())
        parts.append(f"**Data.** {images}. {data_remark}")
    if weights.licence:
        parts.append(f"**Licence** of the weights: {weights.licence}.")
    if weights.scores:
        sets = next(iter(weights.scores.values()))
        config = TEST_CONFIGS.get(weights.architecture, "FILE").format(weights.scale)
        command = f"python test.py --config {config} 'eval_sets=[{','.join(sets)}]' pretrain={weights.file}"
        parts.append(f"**Results**, by `{command}`:")
        parts.append(score_table(weights, bicubic))
    parts.append(weights.remarks)
    parts.append(f"sha256 of the file: `{weights.sha256}`; of the tensors: `{weights.tensors_sha256}`.")
    return "\n\n".join(_wrapped(part) for part in parts if part.strip()) + "\n"


def score_table(weights: Described, bicubic: Scores) -> str:
    """A row a test set: bicubic, these weights under each protocol and, where it is known, the paper's row."""
    measured = {protocol: as_scores(sets) for protocol, sets in weights.scores.items()}
    columns = [("bicubic (standard)", as_scores(bicubic), "standard")] if bicubic else []
    columns += [(f"this file ({protocol})", sets, protocol) for protocol, sets in measured.items()]
    protocol, paper = published(weights.architecture, weights.scale)
    if protocol in PROTOCOLS:
        title = f"paper's {weights.architecture} ({protocol})"
        columns.append((title, paper, "standard"))  # what is printed is rounded
    names = dict.fromkeys(name for sets in measured.values() for name in sets)
    rows: list[list[Cell]] = [[name, *(cell(sets.get(name), how) for _, sets, how in columns)] for name in names]
    return _plain(Table("", ["PSNR dB / SSIM of luma", *(title for title, _, _ in columns)], rows))


def readme_table(zoo: Zoo) -> str:
    """The weights of SSIU beside bicubic, `standard`, between the two lines of `TABLE`."""
    ours = [weights for weights in zoo.weights if weights.architecture == "SSIU"]
    names = dict.fromkeys(name for weights in ours for name in weights.scores.get("standard", {}))
    rows: list[list[Cell]] = []
    for weights in ours:
        files = {"bicubic": zoo.bicubic.get(weights.scale, {}), f"`{weights.file}`": weights.scores.get("standard", {})}
        for title, sets in files.items():
            scores = as_scores(sets)
            rows.append([f"x{weights.scale}: {title}", *(cell(scores.get(name), "standard") for name in names)])
    return TABLE[0] + _plain(Table("", ["", *names], rows)) + "\n" + TABLE[1]


def with_table(readme: str, zoo: Zoo) -> str:
    """``readme`` with the table of today; unchanged where it lacks the two lines."""
    before, start, rest = readme.partition(TABLE[0])
    _, end, after = rest.partition(TABLE[1])
    return before + readme_table(zoo) + after if start and end else readme


def hub_card(
    weights: Described, body: str, repository: str, base_model: str = "", sample: Mapping[str, str] | None = None
) -> str:
    """README.md of ``repository`` on the Hugging Face Hub: its head in YAML, how to use it, the card, sample images.

    ``sample``: titles and files of images.
    """
    licence = weights.licence.lower()
    head: dict[str, Any] = {"library_name": "ssiu", "pipeline_tag": "image-to-image"}
    if licence:
        head |= {"license": licence} if licence in HUB_LICENCES else {"license": "other", "license_name": licence}
    head["tags"] = ["super-resolution", "image-restoration", "pytorch", weights.architecture.lower()]
    if weights.data:
        head["datasets"] = list(weights.data)
    if base_model:
        head |= {"base_model": base_model, "base_model_relation": "finetune"}
    if weights.scores:
        head["metrics"] = ["psnr", "ssim"]
        head["model-index"] = [{"name": weights.name, "results": _results(weights)}]
    use = f"""```bash
ssiu upscale photo.jpg --output larger --weights hf:{repository}
```

```python
model = ssiu.load_model("hf:{repository}")
larger = ssiu.upscale(model, Image.open("photo.jpg"))
```
"""
    title, _, rest = body.partition("\n")
    shown = "".join(f"{name}:\n\n![{name}]({file})\n\n" for name, file in (sample or {}).items())
    text = yaml.safe_dump(head, sort_keys=False, allow_unicode=True)
    return f"---\n{text}---\n{title}\n\n{use}\n{shown}{rest.lstrip()}"


def openmodeldb(weights: Described, author: str, url: str) -> tuple[str, str]:
    """Name and text of OpenModelDB's file of ``weights``, which are at ``url``; ``author`` is an id of its users."""
    name = FULL_NAMES.get(weights.architecture, weights.architecture)
    resource = {"platform": "pytorch", "type": "safetensors", "size": weights.bytes, "sha256": weights.sha256}
    known = {
        "name": name,
        "author": author,
        "license": weights.licence or None,
        "tags": ["general-upscaler", "photo", "research"],
        "description": weights.summary,
        "date": weights.date,
        "architecture": weights.architecture.lower(),
        "size": None,
        "scale": weights.scale,
        "inputChannels": 3,
        "outputChannels": 3,
        "resources": [{**resource, "urls": [url]}],
        "trainingIterations": weights.iterations,
        "dataset": ", ".join(weights.data),
        "datasetSize": sum(weights.data.values()),
        "images": [],
    }
    # its own check wants four spaces, and no line end
    return f"{weights.scale}x-{name}.json", json.dumps(known, indent=4, ensure_ascii=False)


def _images(name: str, number: int, data_sets: Mapping[str, DataSet]) -> str:
    known = data_sets.get(name)
    title = f"[{name}]({known.url})" if known else name
    return (f"{number:,} images of {title}" if number else title) + (f" ({known.licence})" if known else "")


def _results(weights: Described) -> list[dict[str, Any]]:
    """The scores as the hub's evaluation results, a test set and a protocol each."""
    return [
        {
            "task": {"type": "image-to-image", "name": f"x{weights.scale} super-resolution"},
            "dataset": {"name": name, "type": name.lower()},
            "metrics": [
                {"name": f"PSNR dB of luma ({protocol})", "type": "psnr", "value": round(score.psnr, 4)},
                {"name": f"SSIM of luma ({protocol})", "type": "ssim", "value": round(score.ssim, 6)},
            ],
        }
        for protocol, sets in weights.scores.items()
        for name, score in sets.items()
    ]


def as_scores(sets: Scores) -> dict[str, Score]:
    """As `ssiu.evaluation.metrics` has them."""
    return {name: Score(mean.psnr, mean.ssim) for name, mean in sets.items()}


def _plain(table: Table) -> str:
    """Its lines in Markdown, without a title."""
    return table.markdown().partition("\n\n")[2].rstrip("\n")


def _wrapped(text: str) -> str:
    if text.startswith("|"):
        return text
    return textwrap.fill(text, 120, break_long_words=False, break_on_hyphens=False)
