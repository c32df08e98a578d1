"""Examples: which are shown, how they are read, where they stand among the normal images."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from report_runs import CONFIGS, score_matrix, write_example

from pseudoval.errors import UserError
from reports.figures.examples import (
    Example,
    by_category,
    choose_examples,
    rank_among_normals,
    read_examples,
    value_range,
)


def test_examples_take_turns_and_share_a_scale(tmp_path: Path) -> None:
    for category in ("b", "a"):
        for number, (kind, label) in enumerate(
            (("test", 1), ("pseudo", 1), ("test", 0), ("pseudo", 0))
        ):
            write_example(tmp_path / f"{kind}-{category}{number}.npz", kind, label, category)
    write_example(tmp_path / "test-a9.npz", "test", 1, "a")
    chosen = choose_examples(read_examples(tmp_path))
    kinds = ["normal image", "pseudo anomaly", "real defect"]
    every = [(c, k) for c in "ab" for k in kinds]
    assert [(one.category, one.kind) for one in chosen] == [*every[:3], every[2], *every[3:]]
    few = choose_examples(read_examples(tmp_path), most=6)
    assert [(one.category, one.kind) for one in few] == every
    assert {name: len(members) for name, members in by_category(chosen).items()} == {"a": 4, "b": 3}
    assert value_range([one.map for one in chosen]) == (0.0, 94.0)
    assert chosen[1].mask is not None and chosen[2].mask is None


def test_examples_without_features_are_read_too(tmp_path: Path) -> None:
    write_example(tmp_path / "test-0.npz", "test", 1, "a")
    features = np.zeros((5, 6, 8), dtype=np.float32)
    more = {"features": features, "features_noised": features, "large_t": np.array(400)}
    write_example(tmp_path / "test-1.npz", "test", 1, "a", **more)
    without, whole = read_examples(tmp_path)
    assert without.features is None and without.large_t is None
    assert whole.large_t == 400 and whole.features.shape == (2, 5, 6, 8)
    (tmp_path / "test-2.npz").write_bytes(b"cut short")
    with pytest.raises(UserError, match=r"test-2\.npz"):
        read_examples(tmp_path)


def _one(**more: object) -> Example:
    blank = np.zeros((4, 4))
    plain = Example(
        id="cable/1.png",
        category="cable",
        which="test",
        kind="real defect",
        config=CONFIGS[0],
        score=0.0,
        image=np.zeros((4, 4, 3), dtype=np.uint8),
        mask=None,
        map=blank,
    )
    return replace(plain, **more)  # type: ignore[arg-type]


def test_rank_among_the_normals_of_its_own_category() -> None:
    matrix = score_matrix(2)
    normal = [i for i, name in enumerate(matrix.categories) if name == "cable" and i % 2 == 0]
    matrix.scores[0, :] = 100.0  # the other category must not count
    matrix.scores[0, normal] = np.arange(10.0)
    matrix.scores[0, 1] = 7.0
    assert rank_among_normals(_one(), matrix) == pytest.approx(0.75)  # seven below, one equal
    assert rank_among_normals(_one(id="cable/0.png"), matrix) == 0.0  # itself is not counted
    assert rank_among_normals(_one(id="elsewhere.png"), matrix) is None
    assert rank_among_normals(_one(config={"t": 7}), matrix) is None
    assert rank_among_normals(_one(), None) is None
