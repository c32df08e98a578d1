"""Racing: what is dropped, why, and that everything behind tune lives with it."""

import json
from pathlib import Path

import numpy as np
import optuna
import pandas as pd
import pytest
from helpers import (
    contents,
    make_data,
    planned_scores,
    refused,
    road_commands,
    texture,
    with_options,
)
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from PIL import Image

from pseudoval.cli.commands import run
from pseudoval.detectors.lafite import LafiteDetector
from pseudoval.metrics.score_matrix import Config, ScoreMatrix
from pseudoval.statistics.objectives import values
from reports import load_run
from studies import run_study
from studies.search.racing import FEWEST, SHARES, Race, group_keys, race, rounds_of

GRIDS = {"t": [25, 100, 300, 900], "k": [1, 4, 6]}
STRENGTH = {25: 0.0, 100: 1.5, 300: 3.0, 900: -1.0}


def full_matrix(strengths: list[float], noise: float = 1.0, groups: int = 60, seed: int = 0,
                names: str = "ab") -> ScoreMatrix:  # fmt: skip
    """Normals, each with one pseudo anomaly; a configuration adds its strength to anomalies."""
    rng = np.random.default_rng(seed)
    categories = [name for name in names for _ in range(2 * groups)]
    labels = np.tile(np.arange(2), groups * len(names))
    shared = rng.standard_normal(len(labels))
    scores = [s * labels + shared + noise * rng.standard_normal(len(labels)) for s in strengths]
    return ScoreMatrix(
        scores=np.array(scores), configs=[{"t": 10 * (i + 1), "k": 0} for i in range(len(scores))],
        images=[f"{c}/{i}" for i, c in enumerate(categories)], categories=categories,
        labels=labels, groups=[f"g{i // 2}" for i in range(len(labels))],
    )  # fmt: skip


def replayed(matrix: ScoreMatrix, seed: int = 0) -> tuple[Race, list[tuple[int, int]]]:
    """A race over a matrix that knows all scores, and the sizes of what it asked for."""
    frame = matrix.select([])
    asked = []

    def score(configs: list[Config], places: list[list[int]], number: int) -> list[np.ndarray]:
        asked.append((len(configs), len(places[0])))
        rows = [matrix.row(config) for config in configs]
        return [matrix.scores[np.ix_(rows, places[0])]]

    rounds = rounds_of([frame], group_keys(frame, matrix.images), seed=seed)
    return race("macro_image_auroc", matrix.configs, [frame], rounds, score), asked


def test_rounds_take_whole_groups_of_every_category_whatever_the_order() -> None:
    frame = full_matrix([1.0], groups=40).select([])
    keys = group_keys(frame, frame.images)
    (rounds,) = [[part[0] for part in rounds_of([frame], keys)]]
    assert sorted(place for part in rounds for place in part) == list(range(160))
    so_far = 0
    assert SHARES[:2] == (0.1, 0.2) and FEWEST == 8, "which makes them one round here"
    for part, count in zip(rounds, (8, 12, 16, 22, 28, 34, 40), strict=True):
        names = [(frame.categories[p], frame.groups[p]) for p in part]
        assert all(names.count(name) == 2 for name in names), "a normal with its anomaly"
        so_far += len(part)
        assert so_far == 4 * count
    shuffled = np.random.default_rng(1).permutation(160)
    other = ScoreMatrix(
        scores=np.empty((0, 160)), configs=[], images=[frame.images[p] for p in shuffled],
        categories=[frame.categories[p] for p in shuffled], labels=frame.labels[shuffled],
        groups=["renamed " + frame.groups[p] for p in shuffled],
    )  # fmt: skip
    again = rounds_of([other], group_keys(other, other.images))
    for part, theirs in zip(rounds, again, strict=True):
        assert {frame.images[p] for p in part} == {other.images[p] for p in theirs[0]}
    assert rounds_of([frame], keys, seed=1)[0][0] != rounds[0]


def test_the_clearly_worse_leave_early_and_the_close_stay() -> None:
    matrix = full_matrix([0.0, 2.95, 3.0, 3.0, -1.0], noise=0.05)
    found, asked = replayed(matrix)
    first = [one.row for one in found.pruned if one.images == asked[0][1]]
    assert first == [0, 4]
    assert found.image_configurations == sum(c * n for c, n in asked) < matrix.scores.size / 1.5
    assert len(asked) == len(SHARES)
    assert asked[0][0] == 5 > asked[1][0]
    whole = values("macro_image_auroc", matrix)
    mine = values("macro_image_auroc", found.matrices[0])
    kept = [row for row in range(5) if row not in [one.row for one in found.pruned]]
    assert np.array_equal(mine[kept], whole[kept]) and np.isnan(np.delete(mine, kept)).all()
    assert int(np.nanargmax(mine)) == int(whole.argmax())
    for one in found.pruned:
        assert "below t=" in one.reason and f"on {one.images} of 240 images" in one.reason
        scored = ~np.isnan(found.matrices[0].scores[one.row])
        assert scored.sum() == one.images


@pytest.mark.parametrize("seed", range(4))
def test_equal_configurations_are_seldom_dropped(seed: int) -> None:
    """Six that differ by chance alone: the best of them on the whole set must survive."""
    lost = 0
    for trial in range(5):
        matrix = full_matrix([1.0] * 6, seed=100 * seed + trial, groups=30, names="a")
        found, _ = replayed(matrix)
        best = int(values("macro_image_auroc", matrix).argmax())
        lost += best in [one.row for one in found.pruned]
    assert lost <= 1, "5 % are allowed over a race"


def test_a_configuration_that_fails_is_not_scored_further() -> None:
    matrix = full_matrix([1.0, 1.0, 1.0])
    matrix.scores[1, :] = np.nan
    found, asked = replayed(matrix)
    assert [c for c, _ in asked][:2] == [3, 2]
    assert all(one.row != 1 for one in found.pruned)
    matrix.scores[:] = np.nan
    found, asked = replayed(matrix)
    assert len(asked) == 1 and not found.pruned, "nothing is left to score"


def test_few_normals_are_not_raced() -> None:
    found, asked = replayed(full_matrix([0.0, 3.0], groups=FEWEST))
    assert asked == [(2, 4 * FEWEST)] and not found.pruned


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as ``road`` without a run, with 24 held-out normals in each of two categories."""
    root = tmp_path_factory.mktemp("wide")
    make_data(root / "data", count=48)
    for number, category in enumerate("ab"):  # real test images, to evaluate on
        for kind in ("good", "scratch"):
            folder = root / "data" / category / "test" / kind
            folder.mkdir(parents=True)
            for i in range(4):
                image = Image.fromarray(texture(1000 + 100 * number + 10 * (kind == "good") + i))
                image.save(folder / f"{i}.png")
    build, train, *_ = road_commands(root)
    for arguments in ([*build, "--holdout", "0.5"], with_options(train, epochs=1)):
        assert run(arguments) == 0
    return root


def plan(config: dict, label: int, noise: np.ndarray) -> float:
    if config["k"] == 0:
        return STRENGTH[config["t"]] * label + noise[0]
    return 3 * label + {1: 0.7, 4: 0.9, 6: 4.0}[config["k"]] * noise[1]


def tune(wide: Path, out: Path, *more: str) -> list[str]:
    grids = [f"--{name}={','.join(map(str, grid))}" for name, grid in GRIDS.items()]
    return ["tune", "--model", str(wide / "model"), "--pseudo", str(wide / "pseudo"), "--out",
            str(out), *grids, *more]  # fmt: skip


def test_the_whole_road_with_a_race(
    wide: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    planned_scores(monkeypatch, wide / "pseudo", plan)
    out, whole = tmp_path / "run", tmp_path / "whole"
    assert run(tune(wide, whole)) == 0
    capsys.readouterr()
    assert run(tune(wide, out, "--race")) == 0
    told = capsys.readouterr().out
    assert "900:pruned" in told and "raced: " in told
    best = json.loads((out / "best.json").read_text())
    full = json.loads((whole / "best.json").read_text())
    assert best["params"] == full["params"]
    assert best["pseudo_auroc"] == full["pseudo_auroc"]
    stage = best["stages"][0]
    dropped = {one["value"]: one for one in stage["race"]["pruned"]}
    assert {25, 900} <= set(dropped)
    for value, auroc, other in zip(
        stage["values"], stage["pseudo_auroc"], full["stages"][0]["pseudo_auroc"], strict=True
    ):
        assert auroc == (None if value in dropped else other)
    assert stage["race"]["image_configurations"] < stage["race"]["full_grid"] == 4 * 96
    trials = pd.read_csv(out / "trials.csv").set_index("params")
    assert trials.loc["t=900;k=0", "state"] == "PRUNED"
    assert trials.loc["t=900;k=0", "reason"] == dropped[900]["reason"]
    assert np.isnan(trials.loc["t=900;k=0", "objective_value"])
    assert trials.loc["t=300;k=0", "state"] == "COMPLETE"
    storage = JournalStorage(JournalFileBackend(str(out / "optuna.journal")))
    study = optuna.load_study(study_name="t_then_k/t", storage=storage)
    states = {trial.params["t"]: trial for trial in study.trials}
    assert len(states) == len(study.trials) == 4
    assert states[900].state.name == "PRUNED"
    assert states[900].user_attrs["pruned"] == dropped[900]["reason"]
    assert study.best_params == {"t": 300}
    # Finished is finished, and without the race it is another study.
    before = contents(out)
    assert run(tune(wide, out, "--race")) == 0
    assert contents(out) == before
    refused(capsys, tune(wide, out), "another race (True there, False now)")
    # Behind it: every configuration on the test set, and a report of both.
    assert run(["evaluate", str(out), str(wide / "data")]) == 0
    test = ScoreMatrix.load(out / "test_scores.npz")
    assert len(test.configs) == 7 and not np.isnan(test.scores).any()
    assert run(["report", str(out)]) == 0
    found = json.loads((out / "report" / "correlation.json").read_text())
    assert found["stages"][0]["pseudo_auroc"] == stage["pseudo_auroc"]
    assert all(value is not None for value in found["stages"][0]["test_auroc"])
    told = {w["stage"]: w for w in found["warnings"] if w["code"] == "raced"}
    assert told["t"]["dropped"] == list(dropped)
    assert f"{len(dropped)} of 4 were dropped early" in told["t"]["text"]
    assert (out / "report" / "tables").is_dir()
    assert load_run(out).params == best["params"]
    assert run(["report", str(out), str(whole), "--out", str(tmp_path / "both")]) == 0


def test_an_interrupted_race_goes_on(
    wide: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned_scores(monkeypatch, wide / "pseudo", plan)
    assert run(tune(wide, tmp_path / "whole", "--race")) == 0
    honest, calls = LafiteDetector.score_block, []

    def dies(self, images, configs):  # type: ignore[no-untyped-def]
        calls.append(len(configs))
        if len(calls) == 7:
            raise KeyboardInterrupt
        return honest(self, images, configs)

    monkeypatch.setattr(LafiteDetector, "score_block", dies)
    assert run(tune(wide, tmp_path / "run", "--race")) == 130
    monkeypatch.setattr(LafiteDetector, "score_block", honest)
    assert run(tune(wide, tmp_path / "run", "--race")) == 0
    for name in ("best.json", "pseudo_scores.npz"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_one_se_and_refine_with_a_race(
    wide: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    strengths = {**STRENGTH, 62: 1.0, 200: 3.0, 250: 3.1, 150: 2.0, 600: 1.0, 450: 2.0}

    def finer(config: dict, label: int, noise: np.ndarray) -> float:
        return strengths[config["t"]] * label + noise[0] if config["k"] == 0 else label + noise[1]

    planned_scores(monkeypatch, wide / "pseudo", finer)
    found = run_study(
        "t_then_k", model=wide / "model", pseudo=wide / "pseudo", out=tmp_path / "run",
        race=True, refine=2, rule="one-se", t=GRIDS["t"], k=[1, 4],
    )  # fmt: skip
    stage = found.best["stages"][0]
    dropped = [one["value"] for one in stage["race"]["pruned"]]
    assert {25, 900} <= set(dropped)
    added = set(stage["values"]) - set(GRIDS["t"])
    assert {200, 600} <= added, "also towards a neighbour that the race dropped"
    rows = dict(zip(stage["values"], stage["pseudo_auroc"], strict=True))
    assert all(rows[value] is not None for value in added), "added ones are scored in full"
    assert not set(stage["within"]) & set(dropped)
    assert stage["selected"] == min(stage["within"])


def test_what_cannot_race_is_refused(
    wide: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    refused(capsys, tune(wide, out, "--race", "--objective", "pixel_auroc"),
            "A race needs a figure of every image")  # fmt: skip
    for option in ("--race", "--refine"):
        refused(capsys, tune(wide, out, "--study", "joint_tpe", option),
                f"{option} is for whole grids")  # fmt: skip
    other = tmp_path / "other"
    assert run(["build", str(wide / "data"), "--out", str(other), "--per-normal", "2",
                "--holdout", "0.5"]) == 0  # fmt: skip
    manifest = json.loads((other / "manifest.json").read_text())
    manifest["images"] = [one for one in manifest["images"] if "000" not in one["group"]]
    (other / "manifest.json").write_text(json.dumps(manifest))
    refused(capsys, tune(wide, out, "--race", "--pseudo", str(other)), "the same normals")
    assert not out.exists()


def test_several_members_race_together(
    wide: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other"
    assert run(["build", str(wide / "data"), "--out", str(other), "--per-normal", "1",
                "--holdout", "0.5", "--seed", "4"]) == 0  # fmt: skip
    planned_scores(monkeypatch, wide / "pseudo", lambda config, label, noise: (
        STRENGTH[config["t"]] * label + noise[0] if config["k"] == 0 else label))  # fmt: skip
    assert run(tune(wide, tmp_path / "run", "--race", "--pseudo", str(other))) == 0
    best = json.loads((tmp_path / "run" / "best.json").read_text())
    stage = best["stages"][0]
    assert stage["race"]["full_grid"] == 4 * 96
    members = [ScoreMatrix.load(tmp_path / "run" / f"pseudo-{n}" / "pseudo_scores.npz") for n in
               (0, 1)]  # fmt: skip
    for one in stage["race"]["pruned"]:
        row = stage["values"].index(one["value"])
        scored = [~np.isnan(m.scores[row]) for m in members]
        assert [int(s.sum()) for s in scored] == [one["images"]] * 2
        groups = [{m.groups[p] for p in np.flatnonzero(s)} for m, s in
                  zip(members, scored, strict=True)]  # fmt: skip
        assert groups[0] == groups[1], "the same normals in both sets"
