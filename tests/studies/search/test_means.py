"""One choice on the mean over several pseudo sets, and over several seeds of the noise."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers import contents, planned_scores, refused

from pseudoval.cli.commands import run
from pseudoval.data.files import folder_kind
from pseudoval.detectors.lafite import LafiteDetector
from pseudoval.errors import UserError
from pseudoval.metrics.image_metrics import macro_auroc
from pseudoval.metrics.score_matrix import ScoreMatrix
from pseudoval.pseudo_set.manifest import load_manifest, pseudo_items
from studies.checks import check_paired
from studies.search.members import open_members


@pytest.fixture(scope="module")
def second(road: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another pseudo set on the split of the first, its anomalies by another seed."""
    out = tmp_path_factory.mktemp("second") / "pseudo"
    assert run(["build", str(road / "data"), "--out", str(out), "--per-normal", "1", "--seed",
                "5"]) == 0  # fmt: skip
    return out


def tune(road: Path, out: Path, *more: str) -> list[str]:
    return ["tune", "--model", str(road / "model"), "--pseudo", str(road / "pseudo"), "--out",
            str(out), "--t", "25,300", "--k", "1,4", *more]  # fmt: skip


def auroc(folder: Path) -> tuple[ScoreMatrix, np.ndarray]:
    matrix = ScoreMatrix.load(folder / "pseudo_scores.npz")
    return matrix, macro_auroc(matrix.scores, matrix.categories, matrix.labels)


def test_two_sets_and_two_seeds(
    road: Path, second: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    command = tune(road, out, "--pseudo", str(second), "--repeats", "2", "--seed", "7")
    assert run(command) == 0
    best = json.loads((out / "best.json").read_text())
    header = json.loads((out / "run.json").read_text())
    names = [f"pseudo-{p}-noise-{n}" for n in range(2) for p in range(2)]
    assert header["members"] == names
    assert header["members_are"] == "combinations of pseudo set and seed"
    assert (header["repeats"], len(header["pseudo"]), len(header["pseudo_sha256"])) == (2, 2, 2)
    found = {name: auroc(out / name) for name in names}
    mean = np.mean([values for _, values in found.values()], axis=0)
    told = [value for stage in best["stages"] for value in stage["pseudo_auroc"]]
    assert told == pytest.approx(mean.tolist())
    for stage in best["stages"]:
        values = stage["pseudo_auroc"]
        assert stage["selected"] == stage["values"][values.index(max(values))]
        each = np.array(list(stage["pseudo_auroc_by_seed"].values()))
        assert stage["pseudo_auroc_std"] == pytest.approx(each.std(axis=0, ddof=1).tolist())
    # A member is what the same study on that set with that noise alone would have scored.
    for name, pseudo, seed in (("pseudo-1-noise-0", second, 7), ("pseudo-0-noise-1", None, 8)):
        alone = tune(road, tmp_path / name, "--seed", str(seed))
        if pseudo is not None:
            alone[alone.index("--pseudo") + 1] = str(pseudo)
        assert run(alone) == 0
        own, _ = auroc(tmp_path / name)
        both = [config for config in own.configs if config in found[name][0].configs]
        assert len(both) >= 2
        for config in both:
            matrix = found[name][0]
            assert np.array_equal(own.scores[own.row(config)], matrix.scores[matrix.row(config)])
        run_json = json.loads((out / name / "run.json").read_text())
        assert (run_json["seed"], folder_kind(out / name)) == (seed, "run")
        assert json.loads((out / name / "best.json").read_text())["seed"] == seed
    before = contents(out)
    capsys.readouterr()
    assert run(command) == 0
    assert "nothing to do" in capsys.readouterr().out
    assert contents(out) == before
    refused(capsys, tune(road, out, "--seed", "7"), "holds a study with another")


@pytest.mark.usefixtures("blank_pictures")
def test_the_test_set_is_scored_once_for_each_noise(
    road: Path, second: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    assert run(tune(road, out, "--pseudo", str(second), "--repeats", "2")) == 0
    honest, seeds = LafiteDetector.score_block, []

    def counted(self, images, configs):  # type: ignore[no-untyped-def]
        seeds.append(self.seed)
        return honest(self, images, configs)

    monkeypatch.setattr(LafiteDetector, "score_block", counted)
    assert run(["evaluate", str(out), str(road / "data")]) == 0
    assert sorted(seeds) == [0, 1], "one block of test images, two seeds, and not two sets"
    figures = json.loads((out / "figures.json").read_text())
    assert figures["seeds"] == ["pseudo-0-noise-0", "pseudo-0-noise-1"]
    first, other = (out / f"pseudo-{p}-noise-1" / "test_scores.npz" for p in range(2))
    assert first.read_bytes() == other.read_bytes()
    assert run(["report", str(out)]) == 0
    page = (out / "report" / "report.html").read_text()
    assert "4 combinations of pseudo set and seed" in page
    assert run(["train", str(road / "data"), "--refit", str(out), "--out",
                str(tmp_path / "refit")]) == 0  # fmt: skip
    assert run(["evaluate", str(out), str(road / "data"), "--model", str(tmp_path / "refit")]) == 0


@pytest.mark.usefixtures("blank_pictures")
def test_margin_over_sets_needs_the_same_normals(
    road: Path, second: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    plan = lambda config, label, noise: label + noise[0]  # noqa: E731
    planned_scores(monkeypatch, road / "pseudo", plan)
    assert run(tune(road, tmp_path / "a", "--pseudo", str(second), "--rule", "margin")) == 0
    best = json.loads((tmp_path / "a" / "best.json").read_text())
    assert best["objective_interval"] is not None
    assert run(["report", str(tmp_path / "a")]) == 0
    assert "2 pseudo sets" in (tmp_path / "a" / "report" / "report.html").read_text()
    more = tmp_path / "more"
    assert run(["build", str(road / "data"), "--out", str(more), "--per-normal", "2"]) == 0
    assert run(tune(road, tmp_path / "b", "--pseudo", str(more), "--rule", "margin")) == 0


def test_sets_of_other_normals_are_not_resampled_together(road: Path) -> None:
    sets = [(road / "pseudo", pseudo_items(road / "pseudo", load_manifest(road / "pseudo")))]
    members = open_members(road / "model", sets * 2, road / "run", seed=0, repeats=1, device="cpu")
    assert [member.name for member in members] == ["pseudo-0", "pseudo-1"]
    check_paired(members, "margin")
    fewer = [item for item in members[1].items if item.group != members[1].items[0].group]
    apart = [members[0], replace(members[1], items=fewer)]
    check_paired(apart, "best")
    with pytest.raises(UserError, match="have not the same normals"):
        check_paired(apart, "margin")


def test_sets_that_do_not_belong_together(
    road: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other"
    assert run(["build", str(road / "data"), "--out", str(other), "--split-seed", "9"]) == 0
    out = tmp_path / "run"
    refused(capsys, tune(road, out, "--pseudo", str(other)), "another split than")
    refused(capsys, tune(road, out, "--pseudo", str(road / "pseudo")), "given twice")
    part = tmp_path / "part"
    assert run(["build", str(road / "data"), "--out", str(part), "--categories", "flange"]) == 0
    refused(capsys, tune(road, out, "--pseudo", str(part)), "another")
    assert not out.exists()
