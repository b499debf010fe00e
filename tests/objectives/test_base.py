"""Finding an objective by the name of its file."""

from pathlib import Path

import pytest

from frugalclip.core.errors import RecipeError
from frugalclip.objectives.base import find_objective, known_objectives


def test_every_file_holds_one_objective_that_declares_its_needs():
    assert {"contrastive", "sigmoid"} <= set(known_objectives())
    for name in known_objectives():
        objective = find_objective(name)
        assert objective.Config is not None and "needs" in vars(objective) and "forward" in vars(objective)


def test_what_cannot_be_found_says_how_it_would_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(RecipeError, match="did you mean 'sigmoid'"):
        find_objective("sigmiod")
    with pytest.raises(RecipeError, match="put its folder on PYTHONPATH"):
        find_objective("no_such_lab.loss")
    (tmp_path / "empty_lab.py").write_text("x = 1\n")
    (tmp_path / "lab_pkg").mkdir()
    (tmp_path / "lab_pkg" / "nothing.py").write_text("x = 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    own = "from frugalclip.objectives.base import Objective, ObjectiveConfig\n\n\nclass Half(Objective):\n   "
    " Config = ObjectiveConfig\n"
    (tmp_path / "lab_pkg" / "half.py").write_text(own + "\n    def forward(self, views): ...\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(RecipeError, match=r"half\.py: Half has no needs\(\); every objective defines"):
        find_objective("lab_pkg.half")
    with pytest.raises(RecipeError, match="holds 0 objectives, expected one class"):
        find_objective("lab_pkg.nothing")
