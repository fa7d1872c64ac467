"""Every row of Tables III and IV is a variant of a shipped study that builds the right network and trains."""

from pathlib import Path

import pytest
import torch

from ssiu.config.changes import changed_settings
from ssiu.config.load import load_config
from ssiu.config.schema import Config
from ssiu.config.study import load_study
from ssiu.models import build_model
from ssiu.report.paper.published import paper_facts
from ssiu.training.losses import build_loss, total_loss

FOLDER = Path(__file__).parents[2] / "configs/studies"
STUDIES = {  # the base, and of each variant its parameters and what differs from the base
    "tables3_4": ("SSUFSR_light_x4", {
        "esam_moe": (794_467, set()), "esam_no_moe": (777_827, {"moe"}), "sam_moe": (788_707, {"attention"}),
        "l1": (794_467, {"losses"}),
    }),
    "idsa_net": ("idsa_light_x4", {  # our own: its paper's ablations are not public
        "whole": (750_043, set()), "no_sharing": (877_179, {"share_group"}),
        "no_purification": (670_747, {"purification"}), "no_hybrid_attention": (642_971, {"hybrid_attention"}),
    }),
}  # fmt: skip
VARIANTS = [(study, variant) for study, (_, variants) in STUDIES.items() for variant in variants]


def of(study: str, variant: str, *overrides: str) -> Config:
    return next(run.config for run in load_study(f"studies/{study}", overrides).runs if run.variant == variant)


def test_there_is_a_variant_for_every_row():
    rows = {row for table in ("table3", "table4") for row in paper_facts()[table]}
    assert rows - {"l1_fft"} == {*STUDIES["tables3_4"][1]}  # Table IV's second row is Table III's second
    assert paper_facts()["table4"]["l1_fft"] == paper_facts()["table3"]["esam_moe"]
    reduced, whole = (load_study(FOLDER / f"{name}.yml") for name in ("tables3_4_reduced", "tables3_4"))
    assert reduced.variants == whole.variants and len(reduced.seeds) == len(whole.seeds) == 3
    assert {path.stem for path in FOLDER.glob("*.yml")} == {*STUDIES, "tables3_4_reduced"}


@pytest.mark.parametrize(("study", "variant"), VARIANTS)
def test_a_variant_differs_from_the_recipe_in_its_own_key_only_and_has_the_papers_size(study, variant):
    base, variants = STUDIES[study]
    parameters, keys = variants[variant]
    config, recipe = of(study, variant), load_config(base)
    changed = changed_settings(recipe.model_dump(mode="json"), config.model_dump(mode="json"))
    assert {change.partition(":")[0] for change in changed} == keys
    with torch.device("meta"):
        assert sum(parameter.numel() for parameter in build_model(config).parameters()) == parameters
    if study == "tables3_4":
        row = {**paper_facts()["table3"], **paper_facts()["table4"]}[variant]
        assert round(parameters / 1000, 2) == row["params_k"]


@pytest.mark.parametrize(("study", "variant"), VARIANTS)
def test_every_variant_trains(study, variant):
    config = of(study, variant, "n_feats=16", "n_blocks=3")
    torch.manual_seed(0)
    model, loss = build_model(config), build_loss(config)
    lr, hr = torch.rand(1, 3, 16, 16), torch.rand(1, 3, 64, 64)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    losses = []
    for _ in range(5):
        optimizer.zero_grad()
        total = total_loss(loss(model(lr), hr))
        total.backward()
        assert all(parameter.grad is not None for parameter in model.parameters())
        optimizer.step()
        losses.append(total.item())
    assert losses[-1] < losses[0]
