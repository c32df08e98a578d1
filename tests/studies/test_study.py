import json
import shutil
from pathlib import Path

import optuna
import pandas as pd
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from lafite_core.model import LafiteModel
from pseudoval.detectors.lafite import LafiteDetector
from pseudoval.errors import UserError
from pseudoval.metrics.image_metrics import macro_auroc
from pseudoval.metrics.runs import Best, RunHeader, StageHeader, StageResult, read_best, read_header
from pseudoval.metrics.score_matrix import ScoreMatrix
from studies import STUDIES, Stage, run_study, t_then_k
from studies.design.built_in import grid
from studies.search.stage_trials import TrialResult, open_stage
from studies.search.storage import StudyStorage, open_journal


def study(road: Path, out: Path, **options):  # type: ignore[no-untyped-def]
    given = {"t": [25, 300, 900], "k": [1, 4], **options}
    return run_study("t_then_k", model=road / "model", pseudo=road / "pseudo", out=out, **given)


def test_first_t_without_editing_then_k_at_that_t(road: Path) -> None:
    best = json.loads((road / "run" / "best.json").read_text())
    stage_t, stage_k = best["stages"]
    assert stage_t["values"] == [25, 300, 900], "ascending, whatever the order given"
    assert stage_t["configs"] == [{"t": t, "k": 0} for t in (25, 300, 900)]
    assert stage_k["configs"] == [{"t": stage_t["selected"], "k": k} for k in (1, 4)]
    assert best["params"] == {"t": stage_t["selected"], "k": stage_k["selected"]}
    for stage in best["stages"]:
        top = max(stage["pseudo_auroc"])
        first = stage["values"][stage["pseudo_auroc"].index(top)]
        assert stage["selected"] == first, "ties go to the smallest value"
    assert best["pseudo_auroc"] == max(stage_k["pseudo_auroc"])


def test_best_json_agrees_with_the_matrix(road: Path) -> None:
    best = json.loads((road / "run" / "best.json").read_text())
    matrix = ScoreMatrix.load(road / "run" / "pseudo_scores.npz")
    values = macro_auroc(matrix.scores, matrix.categories, matrix.labels).tolist()
    assert values == [value for stage in best["stages"] for value in stage["pseudo_auroc"]]
    manifest = json.loads((road / "pseudo" / "manifest.json").read_text())
    assert matrix.images == [image["path"] for image in manifest["images"]]
    assert matrix.groups == [image["group"] for image in manifest["images"]]
    assert best["split_sha256"] == manifest["split_sha256"]


def test_trials_are_in_the_file_and_in_optuna(road: Path) -> None:
    trials = pd.read_csv(road / "run" / "trials.csv")
    assert list(trials) == [
        "stage", "number", "params", "state", "pseudo_auroc", "seconds", "objective_value",
        "reason",
    ]  # fmt: skip
    assert trials["params"].tolist()[:3] == ["t=25;k=0", "t=300;k=0", "t=900;k=0"]
    assert (trials["state"] == "COMPLETE").all()
    storage = JournalStorage(JournalFileBackend(str(road / "run" / "optuna.journal")))
    loaded = optuna.load_study(study_name="t_then_k/t", storage=storage)
    assert [trial.params["t"] for trial in loaded.trials] == [25, 300, 900]
    assert [trial.value for trial in loaded.trials] == trials["pseudo_auroc"].tolist()[:3]
    assert set(loaded.trials[0].user_attrs) == {
        "seconds", "interval", "auroc/fabric", "auroc/flange", "config",
    }  # fmt: skip


def test_the_files_of_a_run_have_their_forms(road: Path) -> None:
    header, best = read_header(road / "run"), read_best(road / "run")
    found = [(header, RunHeader), (best, Best)]
    found += [(stage, StageHeader) for stage in header["stages"]]
    found += [(stage, StageResult) for stage in best["stages"]]
    for content, form in found:
        assert form.__required_keys__ <= set(content) <= set(form.__annotations__), form


def test_a_second_run_is_the_same_to_the_byte(road: Path, tmp_path: Path) -> None:
    study(road, tmp_path / "run")
    for name in ("best.json", "pseudo_scores.npz"):
        assert (tmp_path / "run" / name).read_bytes() == (road / "run" / name).read_bytes()


def test_interrupted_study_goes_on_without_doubling(
    road: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    honest = LafiteDetector.score_block
    calls = []

    def dies(self, images, configs):  # type: ignore[no-untyped-def]
        calls.append(len(configs))
        if len(configs) == 2:
            raise KeyboardInterrupt
        return honest(self, images, configs)

    monkeypatch.setattr(LafiteDetector, "score_block", dies)
    with pytest.raises(KeyboardInterrupt):
        study(road, out)
    assert not (out / "best.json").exists()
    first = len(calls) - 1
    monkeypatch.setattr(
        LafiteDetector, "score_block", lambda *a: calls.append(len(a[2])) or honest(*a)
    )
    calls.clear()
    outcome = study(road, out)
    assert set(calls) == {2}, "the blocks of the first stage are not scored again"
    assert first > 0
    assert outcome.fresh
    assert len(outcome.trials) == 5
    assert (out / "best.json").read_bytes() == (road / "run" / "best.json").read_bytes()
    assert not (out / "blocks").exists()
    calls.clear()
    assert not study(road, out).fresh
    assert calls == [], "a finished study does nothing"


def test_another_study_in_the_same_folder_is_refused(road: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    shutil.copytree(road / "run", out)
    with pytest.raises(UserError, match=r"another seed .*--overwrite"):
        study(road, out, seed=5)
    with pytest.raises(UserError, match="another grids"):
        study(road, out, k=[1, 4, 5])
    changed = study(road, out, seed=5, overwrite=True)
    assert changed.fresh
    assert changed.best["seed"] == 5
    assert not (out / "report").exists()


def test_model_of_another_split_is_refused(road: Path, tmp_path: Path) -> None:
    pseudo = tmp_path / "pseudo"
    shutil.copytree(road / "pseudo", pseudo)
    manifest = json.loads((pseudo / "manifest.json").read_text())
    manifest["split_sha256"] = "0" * 64
    (pseudo / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(UserError, match="another split"):
        run_study("t_then_k", model=road / "model", pseudo=pseudo, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_set_whose_pictures_changed_is_refused(road: Path, tmp_path: Path) -> None:
    shutil.copytree(road / "pseudo", tmp_path / "pseudo")
    pictures = sorted((tmp_path / "pseudo" / "fabric" / "test" / "good").iterdir())
    pictures[0].write_bytes(pictures[1].read_bytes())
    with pytest.raises(UserError, match=pictures[0].name):
        run_study(t_then_k, model=road / "model", pseudo=tmp_path / "pseudo", out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_wrong_study_and_wrong_grids(road: Path, tmp_path: Path) -> None:
    arguments = {"model": road / "model", "pseudo": road / "pseudo", "out": tmp_path / "run"}
    with pytest.raises(
        UserError,
        match=r"no study 'x'; the studies are t_then_k, .*k_then_t, .*toml",
    ):
        run_study("x", **arguments)
    with pytest.raises(UserError, match="for the detector knn"):
        run_study("k", **arguments)
    with pytest.raises(UserError, match="0 repeats"):
        study(road, tmp_path / "run", repeats=0)
    with pytest.raises(UserError, match="starts at 0"):
        study(road, tmp_path / "run", k=[0, 5])
    with pytest.raises(UserError, match=r"t = 1001 cannot be scored.*1 to 1000"):
        study(road, tmp_path / "run", t=[1001])
    with pytest.raises(UserError, match="k = 5000 cannot be scored"):
        study(road, tmp_path / "run", k=[5000])
    assert not (tmp_path / "run").exists(), "nothing is left behind"


def test_default_grids_are_the_documented_ones(road: Path) -> None:
    plan = t_then_k(LafiteDetector, {})  # type: ignore[arg-type]
    small = LafiteDetector(LafiteModel.load(road / "model"), 0, road / "model")
    bank = len(small.model.bank)
    assert t_then_k(small, {}).stages[1].grid["k"] == tuple(
        k for k in (1, 2, 3, 5, 8, 12, 20, 30, 50) if k <= bank
    ), "the default grid fits a small bank"
    assert plan.stages[0].grid["t"] == (25, 50, 100, 150, 200, 300, 400, 500, 600, 700, 800, 900)
    assert plan.stages[1].grid["k"] == (1, 2, 3, 5, 8, 12, 20, 30, 50)
    assert grid(LafiteDetector, "t", {"t": [7, 3, 7]}) == (3, 7)  # type: ignore[arg-type]
    assert set(STUDIES) == {
        "t_then_k", "t_then_k_then_epoch", "k_then_t", "joint", "joint_tpe", "staged", "k",
        "k_then_epoch", "stages_then_k", "components_then_levels",
    }  # fmt: skip


def test_recording_twice_doubles_no_trial(tmp_path: Path) -> None:
    stage = Stage(name="t", grid={"t": (1, 2, 3)})
    storage = StudyStorage(storage=open_journal(tmp_path), name="s")
    configs, values = stage.configs({}), [0.1, 0.5, 0.3]
    for _ in range(2):
        again = open_stage(storage, stage, {})
        again.record([TrialResult(config=c, value=v) for c, v in zip(configs, values, strict=True)])
    found = again.finished(configs)
    assert sorted(trial.params["t"] for trial, _ in found) == [1, 2, 3]
    assert len(again.study.trials) == 3
    assert again.study.best_params == {"t": 2}
