"""Every recipe that ships can be read, and says what a card needs."""

from dataclasses import replace
from pathlib import Path

import pytest

from relgrade.bundle.card import RUBRICS
from relgrade.formats import read_pairs
from relgrade.settings import Recipe

FOLDER = Path(__file__).parent.parent / "recipes"
# The paper's tables are read by tests/test_paper_settings.py, those of encoders below.
TIERS = ("nano", "mini")
ENCODERS = {f"{tier}-encoder" for tier in TIERS}
PATHS = sorted(path for path in FOLDER.glob("*.toml") if not path.stem.endswith("-paper") and path.stem not in ENCODERS)


def test_there_are_recipes():
    assert {path.name for path in PATHS} >= {"cross-encoder.toml", "default.toml", "nano.toml", "mini.toml"}


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.name)
def test_a_recipe_that_ships(path, tmp_path):
    recipe = Recipe.read(path, data_folder=tmp_path)
    assert recipe.sources
    assert all(Path(source.path).parent == tmp_path for source in recipe.sources)
    assert recipe.bundle.rubric in RUBRICS
    assert {source.rubric for source in recipe.sources} <= set(RUBRICS)
    if recipe.bundle.golden_pairs is not None:
        assert list(read_pairs(recipe.bundle.golden_pairs))


@pytest.mark.parametrize("tier", TIERS)
def test_a_tier_is_the_default_over_another_encoder(tier):
    default, recipe = (Recipe.read(FOLDER / f"{name}.toml") for name in ("default", tier))
    assert recipe.student.base != default.student.base
    own = {name: getattr(recipe.bundle, name) for name in ("name", "description", "base_name")}
    expected = replace(
        default,
        student=replace(default.student, base=recipe.student.base),
        bundle=replace(default.bundle, **own),
        points=recipe.points,
    )
    assert recipe == expected
    for point, its in zip(default.points, recipe.points, strict=True):  # it may promise less
        assert replace(its, target=point.target) == point


@pytest.mark.parametrize("tier", TIERS)
def test_the_encoder_of_a_tier(tier):
    pytest.importorskip("torch")
    from relgrade.settings import read_settings
    from relgrade.student.distillation_settings import DistillationSettings

    recipe = Recipe.read(FOLDER / f"{tier}.toml")
    settings = read_settings(DistillationSettings, FOLDER / f"{tier}-encoder.toml")
    assert settings.recipe == f"{tier}.toml"
    for name in ("max_tokens", "max_query_tokens", "max_windows"):  # it learns on windows as the grader reads them
        assert getattr(settings, name) == getattr(recipe.student, name)
    assert settings.original == Recipe.read(FOLDER / "default.toml").student.base
