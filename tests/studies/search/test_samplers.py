"""What a sampler suggests: again after a kill, never twice, and by every sampler of Optuna's."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState

from pseudoval.errors import UserError
from pseudoval.metrics.score_matrix import Config
from studies import Range, Stage
from studies.design.sampler_names import make_sampler, sampler_name, sampler_of
from studies.search.samplers import check_sampler, maker, tried, try_all
from studies.search.stage_trials import StageTrials, TrialResult, open_stage
from studies.search.storage import StudyStorage, open_journal

WIDE = Stage(
    name="wide", grid={"t": Range(low=1, high=30), "rate": Range(low=0.05, high=0.5, log=True)},
    sampler="tpe", trials=20,
)  # fmt: skip
NAMES = ["bruteforce", "cmaes", "gp", "nsgaii", "nsgaiii", "qmc", "random", "tpe"]


def value_of(config: Config) -> float:
    return -abs(float(config["t"]) - 20) / 30 - float(config.get("rate", 0))


class Killed(Exception):
    """A process that is killed."""


def searched(
    folder: Path,
    stage: Stage = WIDE,
    *,
    value: Callable[[Config], float] = value_of,
    batches: list[int] | None = None,
    sampler: optuna.samplers.BaseSampler | None = None,
) -> StageTrials:
    """Search a stage as it is in a journal."""
    folder.mkdir(exist_ok=True)
    storage = StudyStorage(storage=open_journal(folder), name="s")
    trials = open_stage(storage, stage, {})

    def score(configs: Sequence[Config]) -> None:
        if batches is not None:
            batches.append(len(configs))
        trials.record([TrialResult(config=c, value=value(c), attributes={"a": 1}) for c in configs])

    try_all(trials, storage, {"k": 3}, seed=7, make=maker(stage, sampler), score=score)
    return trials


def seen(trials: StageTrials) -> list[tuple[str, str, float | None]]:
    return [(t.state.name, t.user_attrs["config"], t.value) for t in trials.entered()]


def test_tpe_learns_from_what_it_was_told(tmp_path: Path) -> None:
    ends = Range(low=1, high=30)
    stage = Stage(name="both", grid={"t": ends, "k": ends}, sampler="tpe", trials=60)

    def value(config: Config) -> float:
        return -((float(config["t"]) - 20) ** 2) - (float(config["k"]) - 8) ** 2

    trials = searched(tmp_path, stage, value=value)
    values = [value(config) for config in tried(trials, {})]
    assert len(values) == 60
    assert np.median(values[-20:]) > np.median(values[:10]) + 50
    assert max(values) >= -2


def test_a_range_is_drawn_from_as_it_is(tmp_path: Path) -> None:
    batches: list[int] = []
    trials = searched(tmp_path, batches=batches)
    assert batches == [8, 8, 4]
    configs = tried(trials, {"k": 3})
    assert len(configs) == len({(c["t"], c["rate"]) for c in configs}) == 20
    assert all(type(c["t"]) is int and 1 <= c["t"] <= 30 for c in configs)
    rates = [float(c["rate"]) for c in configs]
    assert all(0.05 <= rate <= 0.5 for rate in rates) and len(set(rates)) == 20
    assert list(configs[0]) == ["t", "k", "rate"]
    other = Stage(name="o", grid={"t": Range(low=5, high=900, step=50)}, sampler="random", trials=9)
    found = [c["t"] for c in tried(searched(tmp_path, other), {"k": 3})]
    assert len(set(found)) == 9 and all((float(t) - 5) % 50 == 0 for t in found)


@pytest.mark.parametrize("name", ["tpe", "qmc"])
def test_a_search_that_is_killed_anywhere_goes_on_as_if_nothing_had_happened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr("studies.search.samplers.BATCH", 3)
    stage = Stage(name="w", grid=WIDE.grid, sampler=name, trials=7)
    whole = seen(searched(tmp_path / "whole", stage))
    calls = {
        "ask": optuna.Study.ask,
        "add": optuna.Trial.set_user_attr,
        "attribute": optuna.storages.JournalStorage.set_trial_user_attr,
        "tell": optuna.Study.tell,
    }
    owners = {
        "ask": (optuna.Study, "ask"), "add": (optuna.Trial, "set_user_attr"),
        "attribute": (optuna.storages.JournalStorage, "set_trial_user_attr"),
        "tell": (optuna.Study, "tell"),
    }  # fmt: skip
    for what, (owner, method) in owners.items():
        for allowed in (0, 1, 4):
            left = [allowed]

            def dies(self, *args, what=what, left=left, **more):  # type: ignore[no-untyped-def]
                if left[0] == 0:
                    raise Killed
                left[0] -= 1
                return calls[what](self, *args, **more)  # type: ignore[operator]

            folder = tmp_path / f"{what}{allowed}"
            with monkeypatch.context() as patched:
                patched.setattr(owner, method, dies)
                with pytest.raises(Killed):
                    searched(folder, stage)
            found = searched(folder, stage)
            if name != "qmc":  # which counts in the storage, and leaves out what a kill has torn
                assert seen(found) == whole, (what, allowed)
            assert len(seen(found)) == 7
            assert {t.state for t in found.entered()} == {TrialState.COMPLETE}
            torn = [t for t in found.study.trials if "config" not in t.user_attrs]
            assert len(torn) <= 1 and all(t.state == TrialState.FAIL for t in torn)


def test_repeats_are_told_what_is_known_and_end_in_something_new(tmp_path: Path) -> None:
    class Stubborn(optuna.samplers.RandomSampler):
        """Suggests 4 again and again."""

        def sample_independent(self, *args):  # type: ignore[no-untyped-def]
            return 4

    stage = Stage(name="few", grid={"t": Range(low=1, high=9)}, sampler="stubborn", trials=4)
    failing = {4: float("nan")}
    trials = searched(
        tmp_path,
        stage,
        sampler=Stubborn(),
        value=lambda c: failing.get(c["t"], 1.0),  # type: ignore[arg-type]
    )
    configs = tried(trials, {"k": 3})
    assert configs[0]["t"] == 4 and len({config["t"] for config in configs}) == 4
    assert len(trials.entered()) == 4 + 3 * 20, "it was asked twenty times for each"
    assert all(trial.state.is_finished() for trial in trials.study.trials)
    assert [t.number for t, _ in trials.finished(configs)] == [0, 21, 42, 63]


def test_points_that_failed_are_mended_where_they_are(tmp_path: Path) -> None:
    def failing(config: Config) -> float:
        return float("nan") if float(config["t"]) % 2 else value_of(config)

    trials = searched(tmp_path, value=failing)
    configs, failed = tried(trials, {"k": 3}), [t for t in trials.entered() if t.value is None]
    assert 0 < len(failed) < 20
    assert {trial.state for trial in failed} == {TrialState.FAIL}
    before = len(trials.entered())
    again = searched(tmp_path)
    assert tried(again, {"k": 3}) == configs, "nothing else is suggested"
    assert [(t.value, c) for t, c in sorted(again.finished(configs), key=lambda p: str(p[1]))] == [
        (value_of(config), config) for config in sorted(configs, key=str)
    ]
    assert len(again.entered()) == before + len(failed)
    assert len(searched(tmp_path).entered()) == before + len(failed)


def test_a_list_is_searched_as_categories(tmp_path: Path) -> None:
    layers = ("1", "2", "2,3", "3")
    stage = Stage(
        name="c", grid={"layers": layers, "t": (1, 2, 40)}, sampler="tpe", trials=6,
        codes=("layers",),
    )  # fmt: skip
    trials = searched(tmp_path, stage)
    configs = stage.ascending(tried(trials, {"k": 3}))
    assert len(configs) == 6
    assert configs == sorted(configs, key=lambda c: (c["t"], layers.index(str(c["layers"]))))


@pytest.mark.parametrize("name", NAMES)
def test_every_sampler_of_optunas_searches(tmp_path: Path, name: str) -> None:
    grid = {"t": Range(low=1, high=30), "rate": Range(low=0.1, high=0.5, step=0.1)}
    stage = Stage(name=name, grid=grid, sampler=name, trials=12)
    if name == "cmaes":
        try:
            import cmaes  # type: ignore[import-not-found] # noqa: F401
        except ImportError:
            with pytest.raises(UserError, match="cmaes needs a package that is not installed"):
                check_sampler(stage, None)
            return
    check_sampler(stage, None)
    assert len(tried(searched(tmp_path, stage), {"k": 3})) == 12


def test_names_of_samplers() -> None:
    for text in ("tpe", "TPE", "TPESampler"):
        assert sampler_name(text) == "tpe"
    assert sampler_name("CmaEs") == sampler_name("cma-es") == "cmaes"
    assert sampler_name("grid") == "grid"
    for wrong in ("cma", "", "base", "partialfixed"):
        with pytest.raises(UserError, match=f"no sampler '{wrong}'; the samplers are grid, "):
            sampler_name(wrong)
    own = make_sampler("random", 3)
    assert sampler_of(own) == ("RandomSampler", own)
    assert sampler_of("gp") == ("gp", None)


def test_a_sampler_that_cannot_is_refused() -> None:
    stage = Stage(name="s", grid={"rate": Range(low=0.1, high=0.5)}, sampler="bruteforce", trials=3)
    with pytest.raises(UserError, match=r"bruteforce cannot search stage s: .*step"):
        check_sampler(stage, None)
