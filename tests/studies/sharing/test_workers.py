import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import optuna
import pytest
from helpers import planned_scores, refused
from optuna.trial import TrialState

from pseudoval.cli.commands import run
from pseudoval.detectors.lafite import LafiteDetector
from pseudoval.metrics.score_matrix import ScoreMatrix
from studies import run_study
from studies.sharing.storage import open_journal


def until(true: Callable[[], bool], process: subprocess.Popen[str], seconds: float = 300) -> None:
    """Wait for something that a process does."""
    end = time.monotonic() + seconds
    while not true():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < end
        time.sleep(0.01)


def children(process: subprocess.Popen[str]) -> list[int]:
    """Ids of the helpers of a process."""
    task = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    found = [int(word) for word in task.read_text().split()]
    return [pid for pid in found if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def tickets(out: Path) -> list[optuna.trial.FrozenTrial]:
    return optuna.load_study(study_name="t_then_k#blocks", storage=open_journal(out)).trials


def at_work(out: Path) -> set[int]:
    """Ids of the processes that have finished a block."""
    if not (out / "optuna.journal").exists():
        return set()
    try:
        found = tickets(out)
    except KeyError:
        return set()
    over = [trial for trial in found if trial.state == TrialState.COMPLETE]
    return {int(trial.user_attrs["worker"].split("/")[-2]) for trial in over}


def test_two_workers_find_what_one_finds(wide, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    out = tmp_path / "run"
    process = wide.start(out, "--workers", "2")
    said, _ = process.communicate(timeout=300)
    assert process.returncode == 0, said
    assert wide.is_same(out)
    assert not (out / "blocks").exists()
    states = [trial.state for trial in tickets(out)]
    assert states.count(TrialState.COMPLETE) >= 2 * 2 * 8
    assert TrialState.RUNNING not in states
    journal = (out / "optuna.journal").read_bytes()
    assert run(wide.arguments(out, "--workers", "3")) == 0, "another number of workers is no matter"
    assert (out / "optuna.journal").read_bytes() == journal, "a finished study adds no trial"


def test_two_commands_on_one_run_share_its_blocks(wide, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    out = tmp_path / "run"
    both = [wide.start(out, "--workers", "1") for _ in range(2)]
    for process in both:
        said, _ = process.communicate(timeout=300)
        assert process.returncode == 0, said
    assert wide.is_same(out)
    found = tickets(out)
    done = [t.user_attrs["work"] for t in found if t.state == TrialState.COMPLETE]
    assert len(done) == len(set(done)), "no block is finished twice"
    for stage in json.loads((out / "best.json").read_text())["stages"]:
        study = optuna.load_study(study_name=f"t_then_k/{stage['name']}", storage=open_journal(out))
        assert [trial.params[stage["param"]] for trial in study.trials] == stage["values"]


def heeds_interrupts() -> None:
    """Undo what a shell does to commands in its background, whose children ignore Ctrl-C too."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_workers_leave_no_process_and_no_claim(  # type: ignore[no-untyped-def]
    wide, tmp_path: Path, number: signal.Signals
) -> None:
    out = tmp_path / "run"
    process = subprocess.Popen(
        [sys.executable, "-m", "pseudoval", *wide.arguments(out, "--workers", "2")],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
        preexec_fn=heeds_interrupts,
    )  # fmt: skip
    until(lambda: bool(at_work(out)), process)
    helpers = children(process)
    if number == signal.SIGINT:
        os.killpg(process.pid, number)  # as a terminal does
    else:
        process.send_signal(number)
    said, _ = process.communicate(timeout=120)
    assert len(helpers) == 1
    assert process.returncode == 130, said
    assert "the same command goes on with it" in said
    assert "Traceback" not in said
    assert not any(alive(pid) for pid in helpers)
    assert TrialState.RUNNING not in [trial.state for trial in tickets(out)]
    assert run(wide.arguments(out)) == 0
    assert wide.is_same(out)


def test_helpers_end_when_the_first_process_is_killed(wide, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    out = tmp_path / "run"
    process = wide.start(out, "--workers", "3", "--repeats", "20")
    until(lambda: len(at_work(out)) > 1, process)
    helpers = children(process)
    assert len(helpers) == 2
    process.kill()
    process.communicate()
    end = time.monotonic() + 60
    while any(alive(pid) for pid in helpers):
        assert time.monotonic() < end, "a helper is left behind"
        time.sleep(0.05)


def test_workers_share_the_audit_and_what_tpe_suggests(wide, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    given = {"model": wide.folder / "model", "pseudo": wide.folder / "pseudo", "seed": 3}
    grids = {"t": [25, 100, 900], "k": [1, 2, 4, 8]}
    for study, share in (("t_then_k", 1.0), ("joint_tpe", None)):
        one, two = tmp_path / f"{study}-1", tmp_path / f"{study}-2"
        for out, workers in ((one, None), (two, 1)):
            run_study(study, out=out, workers=workers, audit_share=share, **given, **grids)
        for name in ("best.json", "pseudo_scores.npz"):
            assert (one / name).read_bytes() == (two / name).read_bytes()


@pytest.mark.parametrize("workers", [None, 1])
def test_points_that_failed_are_run_again_when_asked(  # type: ignore[no-untyped-def]
    road: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int | None
) -> None:
    out = tmp_path / "run"
    broken = {25, 300}

    def plan(config: dict, label: int, drawn: np.ndarray) -> float:
        if config["t"] in broken and config["k"] == 0:
            return math.nan
        return float(label * (1 if config["t"] == 300 else 0.1) + drawn[config["t"] % 7])

    def study(**more):  # type: ignore[no-untyped-def]
        return run_study(
            "t_then_k", model=road / "model", pseudo=road / "pseudo", out=out,
            t=[25, 300, 900], k=[1, 4], workers=workers, **more,
        )  # fmt: skip

    planned_scores(monkeypatch, road / "pseudo", plan)
    first = study()
    assert first.best["params"]["t"] == 900
    assert first.trials["state"].tolist() == ["FAIL", "FAIL", *["COMPLETE"] * 3]
    assert not study().fresh
    again = study(retry_failed=True)
    assert again.trials["state"].tolist() == first.trials["state"].tolist(), "they fail again"
    assert again.best["retries"] == 1

    broken.clear()
    whole = run_study(
        "t_then_k", model=road / "model", pseudo=road / "pseudo", out=tmp_path / "whole",
        t=[25, 300, 900], k=[1, 4],
    )  # fmt: skip
    calls = []
    honest = LafiteDetector.score_block
    monkeypatch.setattr(LafiteDetector, "score_block", lambda *a: calls.append(a[2]) or honest(*a))
    mended = study(retry_failed=True)
    assert calls[0] == [{"t": 25, "k": 0}, {"t": 300, "k": 0}], "only what failed"
    assert {**mended.best, "retries": 0} == {**whole.best, "retries": 0}
    assert (mended.trials["state"] == "COMPLETE").all()
    matrix = ScoreMatrix.load(out / "pseudo_scores.npz")
    assert matrix.configs == whole.matrix.configs
    assert np.array_equal(matrix.scores, whole.matrix.scores)
    assert not study(retry_failed=True).fresh, "nothing failed any more"


def test_wrong_numbers_and_other_names_are_refused(  # type: ignore[no-untyped-def]
    wide, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    refused(capsys, wide.arguments(out, "--storage", "secret"), "not a URL")
    refused(
        capsys,
        wide.arguments(out, "--storage", f"sqlite:///{tmp_path}/a.db", "--workers", "2"),
        "SQLite",
    )
    assert not out.exists(), "bad input leaves nothing behind"
    refused(capsys, wide.arguments(wide.whole, "--study-name", "other"), "another study_name")
    refused(
        capsys,
        wide.arguments(wide.whole, "--storage", f"sqlite:///{tmp_path}/a.db"),
        "another storage",
    )
