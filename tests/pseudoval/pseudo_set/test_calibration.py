"""Calibration: the search on difficulties that are known, then on a set."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import contents, make_data, refused

from pseudoval.cli.commands import run
from pseudoval.errors import UserError
from pseudoval.generators import parse_settings
from pseudoval.pseudo_set.build import build
from pseudoval.pseudo_set.calibrate_set import CalibrationOptions, some_tasks
from pseudoval.pseudo_set.calibration import (
    LEAST_OPACITY,
    MOST_SCALE,
    STEPS,
    adjusted,
    calibrate,
    measured_difficulty,
)
from pseudoval.pseudo_set.manifest import load_manifest
from pseudoval.pseudo_set.plan import Normal, Task

LAFITE = parse_settings("lafite", {})
FAINT = parse_settings("lafite", {"opacity": "0.2,0.4"})


def by_strength(offset: float) -> Callable[[Any], float]:
    """An AUROC that rises with the logarithms of opacity and scale."""

    def difficulty(config: Any) -> float:
        strength = np.log(config.opacity[1]) + 0.5 * np.log(config.scale) + offset
        return float(1 / (1 + np.exp(-2 * strength)))

    return difficulty


def test_what_fits_is_left_alone() -> None:
    found = calibrate(LAFITE, by_strength(1.0))
    assert found.reached and found.config == LAFITE and len(found.trials) == 1


def test_too_easy_becomes_fainter() -> None:
    found = calibrate(LAFITE, by_strength(2.5))
    assert found.reached and found.chosen.scale == 1 and found.chosen.opacity < 1
    assert found.config.opacity == (found.chosen.opacity,) * 2
    assert 0.8 <= by_strength(2.5)(found.config) <= 0.95


def test_far_too_easy_becomes_smaller_as_well() -> None:
    found = calibrate(LAFITE, by_strength(4.3))
    assert found.reached and found.chosen.scale < 1
    assert LEAST_OPACITY < found.chosen.opacity < 1.2 * LEAST_OPACITY
    assert found.config.scale == found.chosen.scale


def test_too_hard_becomes_stronger_then_larger() -> None:
    stronger = calibrate(FAINT, by_strength(1.0))
    assert stronger.reached and 1 < stronger.chosen.opacity <= 5 and stronger.chosen.scale == 1
    larger = calibrate(LAFITE, by_strength(0.0))
    assert larger.reached and larger.chosen.scale > 1 and larger.chosen.opacity == 1


def test_opacity_is_never_more_than_one() -> None:
    assert adjusted(FAINT, 4, 2).opacity == (0.8, 1.0)
    assert adjusted(FAINT, 4, 2).scale == 2


@pytest.mark.parametrize("offset", [-9.0, 9.0])
def test_out_of_reach_takes_the_nearest_and_says_so(offset: float) -> None:
    found = calibrate(LAFITE, by_strength(offset))
    assert not found.reached
    assert len(found.trials) <= 1 + 2 * STEPS
    best = max if offset < 0 else min
    assert found.chosen.image_auroc == best(trial.image_auroc or 0 for trial in found.trials)
    assert 1 / MOST_SCALE <= found.chosen.scale <= MOST_SCALE


def test_what_cannot_be_made_is_a_bound() -> None:
    def difficulty(config: Any) -> float:
        if config.opacity[1] < 0.25:
            raise UserError("too faint")
        return by_strength(3.5)(config)

    found = calibrate(LAFITE, difficulty)
    assert found.reached and found.chosen.opacity >= 0.25
    assert any(trial.image_auroc is None for trial in found.trials)
    assert json.loads(json.dumps(found.to_json()))["reached"] is True


def test_what_cannot_be_made_at_all_is_refused() -> None:
    def difficulty(config: Any) -> float:
        raise UserError("the image is too small")

    with pytest.raises(UserError, match="too small"):
        calibrate(LAFITE, difficulty)


def test_all_parts_of_a_mixture_move_together() -> None:
    config = parse_settings("mix", {"weights": "lafite,perlin"})
    found = adjusted(config, 0.5, 0.25).configs
    assert found["lafite"].opacity == (0.5, 0.5) and found["lafite"].scale == 0.25
    assert found["perlin"].opacity == (0.075, 0.5) and found["perlin"].scale == 0.25


def test_wrong_targets_are_refused() -> None:
    for target in ((0.9, 0.8), (0.4, 0.9), (0.8, 1.1), (0.8,)):
        with pytest.raises(UserError, match="LOW,HIGH"):
            calibrate(LAFITE, by_strength(0), target=target)


def test_difficulty_is_the_mean_auroc_over_categories() -> None:
    class Brightness:
        def __init__(self) -> None:
            self.facts: dict[str, Any] = {}

        def scores(self, category: str, images: Any) -> np.ndarray:
            return np.array([image.mean() for image in images])

    def grey(value: int) -> np.ndarray:
        return np.full((4, 4, 3), value, np.uint8)

    difficulty = measured_difficulty(
        Brightness(),
        {"a": [grey(10), grey(20)], "b": [grey(10), grey(20)]},
        {"a": [15], "b": [5, 25]},
        lambda task, config: grey(task + config),
    )
    assert difficulty(0) == np.mean([0.5, 0.5])
    assert difficulty(10) == np.mean([1.0, (0.5 + 1.0) / 2])
    assert difficulty(100) == 1


def test_calibration_looks_at_as_many_normals_as_it_can() -> None:
    def task(category: str, normal: int, index: int) -> Task:
        background = Normal(name=f"{normal}", file_sha256="", pixel_sha256=f"{normal}")
        return Task(
            maker="lafite", background=background, source=background,
            image=f"{category}/test/lafite/{normal}_{index}.png", mask="", key=(normal, index),
        )  # fmt: skip

    tasks = [task(c, normal, i) for c in "ab" for normal in range(20) for i in range(3)]
    chosen = some_tasks("a", tasks)
    assert len(chosen) == 24 and len({one.background.name for one in chosen}) == 20
    assert all(one.image.startswith("a/") for one in chosen)
    assert some_tasks("a", tasks[::-1]) == chosen


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``data``, and with ``pseudo`` calibrated by the command."""
    root = tmp_path_factory.mktemp("calibrated")
    data = make_data(root / "data", "ab", count=10)
    arguments = ["build", str(data), "--out", str(root / "pseudo"), "--per-normal", "2"]
    assert run([*arguments, "--generator", "lafite", "--calibrate", "--target", "0.6,0.8"]) == 0
    return root


def test_the_manifest_says_what_was_chosen(calibrated: Path) -> None:
    manifest = load_manifest(calibrated / "pseudo")
    found = manifest["calibration"]
    used, asked = manifest["generator"]["parameters"], found["asked"]
    assert asked["opacity"] == [1.0, 1.0] and asked["scale"] == 1.0
    assert used["opacity"] == [pytest.approx(found["opacity"])] * 2
    assert used["scale"] == pytest.approx(found["scale"])
    assert {**used, "opacity": 0, "scale": 0} == {**asked, "opacity": 0, "scale": 0}
    assert found["reference"]["backbone"] == "filterbank"
    assert found["trials"][0]["opacity"] == 1 and found["anomalies"] == {"a": 6, "b": 6}
    assert found["image_auroc"] in [trial["image_auroc"] for trial in found["trials"]]


def test_the_set_is_one_of_the_chosen_options(calibrated: Path, tmp_path: Path) -> None:
    """Nothing but the options differs from a set that was built with them by hand."""
    manifest = load_manifest(calibrated / "pseudo")
    used = manifest["generator"]["parameters"]
    settings = {"opacity": ",".join(map(str, used["opacity"])), "scale": str(used["scale"])}
    build(calibrated / "data", tmp_path / "by_hand", generator="lafite", settings=settings)
    by_hand, found = contents(tmp_path / "by_hand"), contents(calibrated / "pseudo")
    assert by_hand.pop("manifest.json") != found.pop("manifest.json")
    assert by_hand == found


def test_the_difficulty_is_the_one_that_audit_finds(calibrated: Path, tmp_path: Path) -> None:
    """All anomalies of so small a set were scored, so both see the same."""
    from pseudoval.audit.audit import audit

    found = audit(calibrated / "pseudo", tmp_path / "audit", data=calibrated / "data")
    told = load_manifest(calibrated / "pseudo")["calibration"]["image_auroc"]
    assert found["image_auroc"] == pytest.approx(told, abs=2e-6)
    assert found["calibration"]["image_auroc"] == told


def test_a_finished_set_is_known_again(
    calibrated: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents(calibrated / "pseudo")
    monkeypatch.setattr("pseudoval.pseudo_set.build.calibrate_set", None)  # not called
    arguments = ["build", str(calibrated / "data"), "--out", str(calibrated / "pseudo"),
                 "--generator", "lafite"]  # fmt: skip
    assert run([*arguments, "--calibrate", "--target", "0.6,0.8"]) == 0
    assert "calibrated: opacity x" in capsys.readouterr().out
    for more, what in (([], "calibrate was {'target': [0.6, 0.8]"), (["--calibrate"], "0.95]")):
        assert run([*arguments, *more]) == 2
        said = capsys.readouterr().err.splitlines()[-1]  # after the progress
        assert said.startswith("Error: ") and what in said
    assert contents(calibrated / "pseudo") == before


def test_the_number_of_workers_does_not_matter(calibrated: Path, tmp_path: Path) -> None:
    options = CalibrationOptions(target=(0.6, 0.8))
    build(calibrated / "data", tmp_path / "pseudo", generator="lafite", workers=2,
          calibration=options)  # fmt: skip
    assert contents(tmp_path / "pseudo") == contents(calibrated / "pseudo")


def test_options_that_belong_together(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["build", str(data), "--out", str(tmp_path / "pseudo")]
    refused(capsys, [*arguments, "--target", "0.8,0.9"], "belongs to --calibrate")
    refused(capsys, [*arguments, "--backbone", "filterbank"], "belongs to --calibrate")
    calibrating = [*arguments, "--calibrate"]
    refused(capsys, [*calibrating, "--target", "high"], "not of the form LOW,HIGH")
    refused(capsys, [*calibrating, "--target", "0.9,0.8"], "not LOW,HIGH")
    refused(capsys, [*calibrating, "--weights", "none"], "name it with --backbone")
    assert run([*calibrating, "--backbone", "no_such_network"]) == 2
    assert "Error: There is no backbone" in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "pseudo").exists()


def test_anomalies_made_elsewhere_cannot_be_calibrated() -> None:
    @dataclasses.dataclass(frozen=True)
    class External:
        folder: Path

    with pytest.raises(UserError, match="taken as they are cannot be calibrated"):
        calibrate(External(Path()), by_strength(0))
