"""Every row of Tables III and IV has a config that builds the right network and trains."""

from pathlib import Path

import pytest
import torch

from ssiu.config.load import load_config
from ssiu.config.schema import FREE_ON_RESUME
from ssiu.models import build_model
from ssiu.report.paper.published import paper_facts
from ssiu.training.losses import build_loss, total_loss

FOLDER = Path(__file__).parents[2] / "configs/ablations"
PARAMETERS = {
    "table3_esam_no_moe": 777_827,
    "table3_esam_moe": 794_467,
    "table3_sam_moe": 788_707,
    "table4_l1": 794_467,
    "table4_l1_fft": 794_467,
}
IDSA_NET = {  # our own: its paper's ablations are not public
    "idsa_no_sharing": (877_179, "share_group"),
    "idsa_no_purification": (670_747, "purification"),
    "idsa_no_hybrid_attention": (642_971, "hybrid_attention"),
}


def test_there_is_a_config_for_every_row():
    facts = paper_facts()
    rows = [f"{table}_{row}" for table in ("table3", "table4") for row in facts[table]]
    assert sorted(rows) == sorted(PARAMETERS)
    assert {*PARAMETERS, *IDSA_NET} == {path.stem for path in FOLDER.glob("*.yml")}


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters_are_the_papers(name):
    config = load_config(FOLDER / f"{name}.yml")
    with torch.device("meta"):
        count = sum(parameter.numel() for parameter in build_model(config).parameters())
    table, _, row = name.partition("_")
    assert count == PARAMETERS[name]
    assert round(count / 1000, 2) == paper_facts()[table][row]["params_k"]


@pytest.mark.parametrize("name", PARAMETERS)
def test_a_row_differs_from_the_shipped_recipe_in_its_own_key_only(name):
    config, recipe = (load_config(path) for path in (FOLDER / f"{name}.yml", FOLDER.parent / "SSUFSR_light_x4.yml"))
    different = {key for key, value in config.model_dump().items() if value != getattr(recipe, key)}
    own = {"table3_esam_no_moe": {"moe"}, "table3_sam_moe": {"attention"}, "table4_l1": {"lambda_fft"}}
    assert different - FREE_ON_RESUME == own.get(name, set())


@pytest.mark.parametrize("name", IDSA_NET)
def test_each_idea_of_idsa_net_is_left_out_alone(name):
    config, recipe = (load_config(path) for path in (FOLDER / f"{name}.yml", FOLDER.parent / "idsa_light_x4.yml"))
    different = {key for key, value in config.model_dump().items() if value != getattr(recipe, key)}
    with torch.device("meta"):
        count = sum(parameter.numel() for parameter in build_model(config).parameters())
    assert (count, different - FREE_ON_RESUME) == (IDSA_NET[name][0], {IDSA_NET[name][1]})


@pytest.mark.parametrize("name", [*PARAMETERS, *IDSA_NET])
def test_every_row_trains(name):
    config = load_config(FOLDER / f"{name}.yml", ["n_feats=16", "n_blocks=3"])
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
