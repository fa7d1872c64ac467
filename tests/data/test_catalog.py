"""The catalogue of known data sets."""

from pathlib import Path

import pytest
from toy_sets import write_set

from ssiu.config.load import make_config
from ssiu.data.catalog import SETS, TEST_SETS, facts_of, known_name
from ssiu.data.check import check_set
from ssiu.data.pairs import find_pairs
from ssiu.data.test_sets import load_test_set, load_test_sets
from ssiu.errors import MissingInputError
from ssiu.report.paper.published import paper_rows


@pytest.mark.parametrize(
    ("written", "name"),
    [("set5", "Set5"), ("BSD100", "B100"), ("bsds100 MOD12", "B100 mod12"), ("df2k", "DF2K"), ("MySet", "MySet")],
)
def test_a_set_is_known_by_its_other_names_in_any_case(written: str, name: str) -> None:
    assert known_name(written) == name


def test_a_folder_with_another_name_of_a_set_is_read_as_that_set(tmp_path: Path) -> None:
    write_set(tmp_path / "benchmark/BSDS100", ["a"])
    for asked in ("B100", "bsd100", "BSDS100"):
        config = make_config({"data_path": str(tmp_path), "scale": 2, "eval_sets": [asked]})
        assert [each.name for each in load_test_sets(config)] == ["B100"]
        assert load_test_set(tmp_path, asked, 2).name == "B100"
    assert check_set(tmp_path, "BSDS100")[0].expected == 100


@pytest.mark.parametrize("folder", [".", "absent"])
def test_a_missing_set_comes_with_the_command_that_gets_or_makes_it(tmp_path: Path, folder: str) -> None:
    data = tmp_path / folder
    for name, command in {
        "mine": f"prepare PHOTOS --output {data}/mine",
        "mine_val": f"prepare PHOTOS --output {data}/mine --holdout 20",
        "df2k": f"download df2k --to {data}",
        "BSD100 mod12": f"download benchmark --to {data}",
    }.items():
        with pytest.raises(MissingInputError) as caught:
            find_pairs(data, name, 2)
        assert str(caught.value).endswith(f"get it: python -m ssiu {command}")


def test_every_column_of_the_paper_is_a_set_of_the_catalogue() -> None:
    for row in paper_rows():
        assert set(row.scores) <= set(TEST_SETS)
    assert set(TEST_SETS) == {name for row in paper_rows() for name in row.scores}


def test_every_folder_of_the_usual_test_sets_has_its_digest() -> None:
    for name in ("Set5", "Set14", "B100", "Urban100", "Set5 mod12", "Set14 mod12", "B100 mod12"):
        assert set(facts_of(name)) == {"HR", "x2", "x3", "x4"}
    assert facts_of("Manga109") == facts_of("MySet") == {}


def test_the_names_of_df2k_are_the_published_ones() -> None:
    df2k = SETS["DF2K"]
    names = df2k.names_of_part("Flickr2K")
    assert names["000001"] == "0901" and names["002650"] == "3550"
    assert max(df2k.names_of_part("DIV2K").values()) == "0800"
    assert len(df2k.stems()) == df2k.images == 3450
