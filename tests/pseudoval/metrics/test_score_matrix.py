from pathlib import Path

import numpy as np
import pytest

from pseudoval.errors import UserError
from pseudoval.metrics.score_matrix import ScoreMatrix, config_name, parse_config


def matrix() -> ScoreMatrix:
    return ScoreMatrix(
        scores=np.array([[0.1, 0.9, 0.3], [0.2, 0.8, 0.25]]),
        configs=[{"t": 25, "k": 0}, {"t": 200, "k": 5}],
        images=["a/1", "a/2", "b/1"],
        categories=["a", "a", "b"],
        labels=np.array([0, 1, 0]),
        groups=["1", "1", "2"],
        pixel={"pixel_auroc": np.array([[0.5, np.nan], [0.75, np.nan]])},
        pixel_reason=["", "no masks"],
        header={"seed": 3},
    )


def test_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "s.npz"
    matrix().save(path)
    again = ScoreMatrix.load(path)
    for name in ("configs", "images", "categories", "groups", "pixel_reason", "header"):
        assert getattr(again, name) == getattr(matrix(), name)
    assert np.array_equal(again.scores, matrix().scores)
    assert np.array_equal(again.pixel["pixel_auroc"], matrix().pixel["pixel_auroc"], equal_nan=True)
    assert [config_name(config) for config in again.configs] == ["t=25;k=0", "t=200;k=5"]
    before = path.read_bytes()
    matrix().save(path)
    assert path.read_bytes() == before
    with np.load(path, allow_pickle=False) as arrays:
        assert "scores" in arrays.files, "readable without pickle"


def test_rows_and_selection() -> None:
    assert matrix().row({"k": 5, "t": 200}) == 1
    assert matrix().select([1]).configs == [{"t": 200, "k": 5}]
    with pytest.raises(KeyError, match="t=9;k=0"):
        matrix().row({"t": 9, "k": 0})


def test_joining_keeps_images_and_adds_configurations() -> None:
    first, second = matrix().select([0]), matrix().select([1])
    whole = ScoreMatrix.joined([first, second])
    assert whole.configs == matrix().configs
    assert np.array_equal(whole.scores, matrix().scores)
    assert np.array_equal(whole.pixel["pixel_auroc"], matrix().pixel["pixel_auroc"], equal_nan=True)
    assert (whole.images, whole.pixel_reason) == (matrix().images, matrix().pixel_reason)


def test_damaged_file(tmp_path: Path) -> None:
    path = tmp_path / "s.npz"
    matrix().save(path)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(UserError, match="cannot be read"):
        ScoreMatrix.load(path)


@pytest.mark.parametrize(
    ("text", "config"),
    [("t=200;k=5", {"t": 200, "k": 5}), ("w=0.5", {"w": 0.5}), ("mine", {"name": "mine"}),
     ("t=a", {"name": "t=a"}), ("t=nan", {"name": "t=nan"})],
)  # fmt: skip
def test_names_of_configurations(text: str, config: dict[str, float]) -> None:
    assert parse_config(text) == config
    assert config_name(config) == text


def test_csv(tmp_path: Path) -> None:
    path = tmp_path / "s.csv"
    path.write_text("image,category,label,group,t=25;k=0,mine\nx,a,0,g,0.5,1\ny,a,1,g,2e-1,3\n")
    read = ScoreMatrix.read_csv(path)
    assert read.configs == [{"t": 25, "k": 0}, {"name": "mine"}]
    assert read.scores.tolist() == [[0.5, 0.2], [1.0, 3.0]]
    assert read.labels.tolist() == [0, 1]
    assert read.groups == ["g", "g"]


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("image,category,a\nx,c,1\n", "'label' is missing"),
        ("image,category,label\nx,c,1\n", "no score column"),
        ("image,category,label,a\n", "no row"),
        ("image,category,label,a,a\nx,c,1,2,3\n", "occurs twice"),
        ("image,category,label,a\nx,c,1,2\nx,c,1,3\n", "'x' occurs twice"),
        ("image,category,label,a\nx,c,2,2\n", "neither 0"),
        ("image,category,label,a\nx,c,1,nan\n", "line 2 is not a finite number"),
        ("image,category,label,a\nx,c,1,one\n", "not a finite number"),
        ("image,category,label,a\nx,,1,2\n", "line 2 has no category"),
        ("image,category,label,a\nx,c,1,2\n ,c,0,3\n", "line 3 has no image"),
        ("image,category,label,a\nx,c,1,2,3,4\n", "not a CSV"),
        ("image,category,label,a\nx,c,1,inf\n", "not a finite number"),
        ("image,category,label,a\nx,c,1\n", "not a finite number"),
        ("", "not a CSV"),
    ],
)
def test_wrong_csv(tmp_path: Path, text: str, what: str) -> None:
    path = tmp_path / "s.csv"
    path.write_text(text)
    with pytest.raises(UserError, match=what):
        ScoreMatrix.read_csv(path)
