"""The report's folder as a whole: bytes, the page, the CSV road."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from helpers import contents
from report_runs import make_run, score_matrix

from pseudoval.errors import UserError
from pseudoval.metrics.score_matrix import ScoreMatrix, config_name
from reports import correlate, load_csv, load_run, write_report

FILES = {"correlation.json", "curves.csv", "curves.png", "report.html"}
FOLDERS = {"figures", "tables"}


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report([make_run(tmp_path_factory.mktemp("report") / "run")])


def test_the_same_run_gives_the_same_bytes(report: Path, tmp_path: Path) -> None:
    """Also in the place of an earlier report, of which nothing is left."""
    shutil.copytree(report, tmp_path / "elsewhere")
    for name in ("report.html", "figures/figure6_curves.svg", "figures/gone.png"):
        (tmp_path / "elsewhere" / name).write_text("earlier")
    again = write_report([make_run(tmp_path / "run")], tmp_path / "elsewhere")
    assert report.name == "report" and report.parent.name == "run"
    assert {path.name for path in report.iterdir()} == FILES | FOLDERS | {".pseudoval.json"}
    first, second = contents(report), contents(again)
    assert first.keys() == second.keys()
    for name in first:
        assert first[name] == second[name], name


def test_the_files_are_what_they_say(report: Path) -> None:
    found = json.loads((report / "correlation.json").read_text())
    assert found["final"]["params"] == {"t": 200, "k": 2}
    assert found["final"]["pixel_auroc"] == pytest.approx(0.9)
    table = pd.read_csv(report / "curves.csv")
    macro = table[(table.category == "macro") & (table.set == "test") & (table.stage == "k")]
    assert macro.auroc.tolist() == found["stages"][1]["test_auroc"]
    picture = (report / "curves.png").read_bytes()
    assert picture.startswith(b"\x89PNG")
    assert b"Software" not in picture and b"tEXtDate" not in picture


def test_the_page_is_self_contained_and_says_what_matters(report: Path) -> None:
    page = (report / "report.html").read_text()
    assert not re.search(r"(?:src|href)\s*=\s*[\"'](?!data:|#)", page)
    assert not re.search(r"url\(|@import|https?://", page)
    assert len(re.findall(r"<img [^>]*alt=\"[^\"]+\"", page)) == page.count("<img ")
    text = re.sub(r"\s+", " ", page)
    assert "Chosen: t = 200, K = 2. On the real test set: image AUROC 0." in text
    assert "n/a: tire, no masks &amp; no ground truth." in text
    assert "It saw no image, label or mask of the real test set" in text
    assert "cable/&lt;test-2&gt;" in text
    assert "numpy 2.x" in text
    assert "secret" not in text


@pytest.mark.usefixtures("blank_pictures")
def test_without_test_scores_the_page_claims_nothing(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", ("<i>cable</i>",))
    (run / "test_scores.npz").unlink()
    page = (write_report([run]) / "report.html").read_text()
    assert "nothing is known about real defects" in page
    assert "best on test" not in page and "real AUROC" not in page
    assert "What did choosing without labels cost" not in page
    assert "<i>cable" not in page and "&lt;i&gt;cable" in page


def _csv(path: Path, matrix: ScoreMatrix, names: list[str] | None = None) -> Path:
    columns = names or [config_name(config) for config in matrix.configs]
    table = pd.DataFrame(
        {"image": matrix.images, "category": matrix.categories, "label": matrix.labels}
        | dict(zip(columns, matrix.scores, strict=True))
    )
    table.to_csv(path, index=False)
    return path


def test_csv_files_give_the_figures_of_the_run(report: Path, tmp_path: Path) -> None:
    scores = _csv(tmp_path / "pseudo.csv", score_matrix(1))
    test = _csv(tmp_path / "test.csv", score_matrix(2))
    found = correlate(load_csv(scores, test))
    expected = json.loads((report / "correlation.json").read_text())
    assert found["stages"] == expected["stages"]
    assert found["final"]["regret"] == expected["final"]["regret"]
    assert found["final"]["pixel_auroc"] is None


@pytest.mark.parametrize(
    ("headers", "stages", "params"),
    [
        (["t=100", "t=200", "t=300", "t=200;k=2", "t=200;k=9"], "t k", {"t": 200, "k": 2}),
        (["t=100", "t=200", "t=300", "t=400", "t=500"], "t", {"t": 400}),
        (["k=1", "k=5", "k=2", "k=7", "k=9"], "k", {"k": 7}),
        (["t=9;k=1", "t=9;k=5", "t=9;k=2", "t=9;k=7", "t=9;k=9"], "k", {"t": 9, "k": 7}),
        # K was not tried at the t that the pseudo set chooses, so the stages cannot be replayed.
        (["t=100", "t=200", "t=300", "t=100;k=2", "t=300;k=9"], "configuration", None),
        (["t=1;k=2", "t=2;k=2", "t=3;k=2", "t=4;k=2", "t=5;k=3"], "configuration", None),
        (["wide", "deep", "small", "t=4", "<b>"], "configuration", {"t": 4}),
    ],
)
def test_stages_follow_from_the_columns(
    headers: list[str], stages: str, params: dict | None, tmp_path: Path
) -> None:
    found = correlate(load_csv(_csv(tmp_path / "pseudo.csv", score_matrix(1), headers)))
    assert " ".join(stage["name"] for stage in found["stages"]) == stages
    if stages != "configuration":
        assert all(stage["values"] == sorted(stage["values"]) for stage in found["stages"])
    if params is not None:
        assert found["final"]["params"] == params


@pytest.mark.usefixtures("blank_pictures")
def test_a_report_on_named_configurations_without_a_run(tmp_path: Path) -> None:
    names = ["wide", "deep", "a name longer than its place on the axis", "t=4", "<b>"]
    scores = _csv(tmp_path / "pseudo.csv", score_matrix(1), names)
    out = write_report([], tmp_path / "out", scores=scores, test_scores=scores)
    page = (out / "report.html").read_text()
    assert "agree on the best" in page
    assert "&lt;b&gt;" in page and "<b>" not in page
    assert "It saw no image" not in page  # who knows what is in the files
    assert {path.name for path in out.iterdir()} == FILES | FOLDERS | {".pseudoval.json"}


def test_csv_files_that_do_not_fit(tmp_path: Path) -> None:
    scores = _csv(tmp_path / "pseudo.csv", score_matrix(1))
    renamed = _csv(
        tmp_path / "test.csv", score_matrix(2), ["t=100;k=0", "t=200;k=0", "a", "b", "c"]
    )
    with pytest.raises(UserError, match=r"test.csv has no column for configuration 't=300;k=0'"):
        write_report([], tmp_path / "out", scores=scores, test_scores=renamed)
    twice = _csv(tmp_path / "twice.csv", score_matrix(1), ["t=1", "t=1.0", "t=2", "t=3", "t=4"])
    with pytest.raises(UserError, match="'t=1' has two columns"):
        write_report([], tmp_path / "out", scores=twice)
    one_class = score_matrix(1)
    one_class.labels[:] = 0
    with pytest.raises(UserError, match="normal images only"):
        write_report([], tmp_path / "out", scores=_csv(tmp_path / "one.csv", one_class))
    assert not (tmp_path / "out").exists()


def test_what_is_asked_for_must_be_one_thing(tmp_path: Path) -> None:
    run, scores = tmp_path / "run", tmp_path / "scores.csv"
    for arguments, expected in (
        (([],), "nothing to report on"),
        (([run, run],), "given twice"),
    ):
        with pytest.raises(UserError, match=expected):
            write_report(*arguments)
    with pytest.raises(UserError, match="one of the two"):
        write_report([run], scores=scores)
    with pytest.raises(UserError, match="--scores too"):
        write_report([], test_scores=scores)


def test_a_folder_that_is_not_ours_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("mine")
    with pytest.raises(UserError, match="did not write"):
        write_report([], tmp_path / "out", scores=_csv(tmp_path / "p.csv", score_matrix(1)))
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["thesis.txt"]


def test_reports_load_neither_torch_nor_optuna_nor_a_detector() -> None:
    code = (
        "import sys, reports; "
        "print([m for m in ('torch', 'optuna', 'lafite_core', 'studies', 'timm') "
        "if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_files_of_two_studies_are_refused(road: Path, tmp_path: Path) -> None:
    shutil.copytree(road / "run", tmp_path / "run")
    best = json.loads((tmp_path / "run" / "best.json").read_text())
    best["stages"][0]["pseudo_auroc"][0] += 0.01
    (tmp_path / "run" / "best.json").write_text(json.dumps(best))
    with pytest.raises(UserError, match="inconsistent"):
        load_run(tmp_path / "run")
