"""Every recipe that ships can be read, and says what a card needs."""

from pathlib import Path

import pytest

from relgrade.bundle.card import RUBRICS
from relgrade.formats import read_pairs
from relgrade.settings import Recipe

FOLDER = Path(__file__).parent.parent / "recipes"
# The paper's tables are read by tests/test_paper_settings.py.
PATHS = sorted(path for path in FOLDER.glob("*.toml") if not path.stem.endswith("-paper"))


def test_there_are_recipes():
    assert {path.name for path in PATHS} >= {"cross-encoder.toml", "default.toml"}


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.name)
def test_a_recipe_that_ships(path, tmp_path):
    recipe = Recipe.read(path, data_folder=tmp_path)
    assert recipe.sources
    assert all(Path(source.path).parent == tmp_path for source in recipe.sources)
    assert recipe.bundle.rubric in RUBRICS
    assert {source.rubric for source in recipe.sources} <= set(RUBRICS)
    if recipe.bundle.golden_pairs is not None:
        assert list(read_pairs(recipe.bundle.golden_pairs))
