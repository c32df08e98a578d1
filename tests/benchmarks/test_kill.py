"""Two kills here; a hundred with the benchmark, workers included."""

import random
from pathlib import Path

import pytest
from helpers import copied

from kill import Attacked, different, kill_often


def test_two_kills_lose_nothing(road: Path, several: Path, tmp_path: Path) -> None:
    for of, name, copy in ((road, "data", "data"), (road, "pseudo", "pseudo"),
                           (several, "model", "train")):  # fmt: skip
        copied(of / name, tmp_path / copy)
    found = kill_often(tmp_path, 2, 1, commands=["tune"], workers=[0])
    checks = found["checks"]
    assert found["figures"]["kills_survived"]["ours"] == 2
    assert checks["all survived"] and checks["blocks lost"] <= 2
    assert checks["by command"]["tune, alone"]["needed"]["blocks"] > 5


def test_what_is_wrong_is_seen(tmp_path: Path) -> None:
    whole, out = tmp_path / "whole", tmp_path / "out"
    for folder in (whole, out):
        (folder / "seed-0").mkdir(parents=True)
        (folder / "seed-0" / "scores.npz").write_bytes(b"scores")
    assert different(whole, out) == []
    (out / "seed-0" / ".scores.npz.tmp").touch()
    (out / "seed-0" / "scores.npz").write_bytes(b"others")
    (whole / "best.json").touch()
    assert sorted(different(whole, out)) == [
        "best.json is missing", "seed-0/.scores.npz.tmp is left", "seed-0/scores.npz is another",
    ]  # fmt: skip
    one = Attacked(arguments=["tune"], workers=0, log=tmp_path / "one.log")
    (tmp_path / "whole.count").write_text("bbbp")
    one.count.write_text("bbbbpp")
    assert one.lost(tmp_path / "whole.count") == {"blocks": 1, "pixel figures": 1, "epochs": 0}


def test_a_command_that_fails_is_an_error(tmp_path: Path) -> None:
    one = Attacked(arguments=["evaluate", "nowhere", "nothing"], workers=0, log=tmp_path / "a.log")
    with pytest.raises(RuntimeError, match=r"evaluate ended with 2, see .*a\.log"):
        one.to_the_end(0, 0, random.Random(0))
