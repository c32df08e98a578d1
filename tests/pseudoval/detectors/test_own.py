"""A detector of one's own: fits and loads counted, states and scores kept, mistakes explained."""

import json
import multiprocessing
import shutil
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import refused
from own_classes import Scaled

from pseudoval.cli.commands import run
from pseudoval.data.images import read_rgb
from pseudoval.detectors import Parameter
from pseudoval.detectors.own_class import seeded
from pseudoval.detectors.states import read_state, write_state
from pseudoval.errors import UserError
from pseudoval.metrics.score_matrix import ScoreMatrix
from pseudoval.models.members import recorded_sha256
from pseudoval.models.open import open_detector
from pseudoval.models.train import train
from studies import run_study

SCALED, TOGETHER = "own_classes:Scaled", "own_classes:Together"


@pytest.fixture(autouse=True)
def _nothing_counted() -> None:
    Scaled.counted.clear()


@pytest.fixture(scope="module")
def trained(road: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``model`` of ``Scaled``."""
    folder = tmp_path_factory.mktemp("own")
    train(road / "data", road / "pseudo", folder / "model", detector=SCALED)
    return folder


def the_images(road: Path) -> list[np.ndarray]:
    return [read_rgb(path) for path in sorted((road / "pseudo").glob("*/test/*/*.png"))[:4]]


def test_from_train_to_predict(
    road: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, pseudo = tmp_path / "data", str(road / "pseudo")
    shutil.copytree(road / "data", data)
    hidden = [folder.rename(tmp_path / folder.parent.name) for folder in data.glob("*/test")]
    model, out, refit = (tmp_path / name for name in ("model", "run", "refit"))
    command = ["train", str(data), "--pseudo", pseudo, "--detector", SCALED, "--out", str(model)]
    assert run(command) == 0
    assert Scaled.counted == ["fit 4", "load 4"]
    Scaled.counted.clear()
    assert run(["tune", "--model", str(model), "--pseudo", pseudo, "--out", str(out)]) == 0
    assert sorted(Scaled.counted) == ["fit 8", "load 4", "load 8"], "once a value"
    files = {path.suffix for path in model.rglob("*") if path.is_file()}
    assert files == {".safetensors", ".json"}
    best = json.loads((out / "best.json").read_text())
    assert [stage["name"] for stage in best["stages"]] == ["factor", "pooling", "side"]
    first = best["stages"][0]
    assert first["values"] == [0.5, 1.0, 4.0]
    assert first["configs"][0] == {"factor": 0.5, "pooling": "mean", "side": 4}
    for folder in hidden:
        folder.rename(data / folder.name / "test")
    Scaled.counted.clear()
    for arguments in [
        ["evaluate", out, data],
        ["report", out],
        ["train", data, "--refit", out, "--out", refit],
        ["evaluate", out, data, "--model", refit],
        ["predict", refit, data / "fabric" / "test", "--out", tmp_path / "predictions"],
    ]:
        assert run([str(argument) for argument in arguments]) == 0, arguments
    side = best["params"]["side"]
    assert Scaled.counted.count(f"fit {side}") == 1, "a refit is fitted with what was chosen"
    about = json.loads((tmp_path / "predictions" / "predictions.json").read_text())
    assert about["params"] == best["params"] and about["scale"] is not None
    assert len([*(tmp_path / "predictions" / "maps").rglob("*.png")]) == about["images"]
    assert [*(out / "examples").glob("test-*.npz")]
    refused(capsys, [*command, "--resume", "--set", "side=8"], "another --set")


def test_workers_do_the_same(road: Path, tmp_path: Path) -> None:
    """They import the module, and fit what the driver would have fitted."""
    spawned = multiprocessing.get_context("spawn")
    made = []
    with ProcessPoolExecutor(1, mp_context=spawned) as workers:
        for name, executor in (("alone", None), ("shared", workers)):
            model, out = tmp_path / name / "model", tmp_path / name / "run"
            train(road / "data", road / "pseudo", model, detector=SCALED, executor=executor)
            run_study("staged", model=model, pseudo=road / "pseudo", out=out, executor=executor)
            files = [*model.glob("**/*.safetensors"), out / "best.json", out / "pseudo_scores.npz"]
            made.append([(path.name, path.read_bytes()) for path in sorted(files)])
    assert made[0] == made[1] and len(made[0]) == 4
    assert Scaled.counted == ["fit 4", "load 4", "load 4", "fit 8", "load 8"], "of the driver alone"


def test_shared_work_and_no_maps(road: Path, tmp_path: Path) -> None:
    sha256 = train(road / "data", road / "pseudo", tmp_path / "model", detector=TOGETHER,
                   per_category=True, seeds=2)  # fmt: skip
    assert recorded_sha256(tmp_path / "model") == sha256
    one = open_detector(tmp_path / "model" / "seed-1", seed=0).of("fabric")
    assert not one.has_maps and one.of_all
    configs = [{"factor": f, "pooling": p, "side": 4} for f in (0.5, 4.0) for p in ("mean", "max")]
    block = one.score_block(the_images(road), configs)
    assert block.coarse is None and np.isfinite(block.scores).all()
    command = ["tune", "--model", tmp_path / "model", "--pseudo", road / "pseudo", "--study",
               "joint", "--grid", "factor=0.5..4", "--trials", "4", "--out",
               tmp_path / "run"]  # fmt: skip
    assert run([*map(str, command)]) == 0
    header = json.loads((tmp_path / "run" / "run.json").read_text())
    assert header["grids"]["factor"] == {"from": 0.5, "to": 4.0, "step": None, "log": True}
    assert header["stages"][0]["codes"] == ["pooling"] and header["stages"][0]["sampler"] == "tpe"


def test_scores_depend_on_the_image_and_the_configuration_alone(road: Path, trained: Path) -> None:
    images = the_images(road)
    configs = [{"factor": 0.5, "pooling": "max"}, {"factor": 4.0, "pooling": "mean", "side": 8}]
    one = open_detector(trained / "model", seed=0)
    block = one.score_block(images, configs)
    again = open_detector(trained / "model", seed=0).score_block(images[::-1], configs[::-1])
    assert np.array_equal(block.scores, again.scores[::-1, ::-1])
    assert block.coarse is not None and again.coarse is not None
    assert np.array_equal(block.coarse, again.coarse[::-1, ::-1])
    assert Scaled.counted.count("fit 8") <= 1, "kept in MODEL"
    other = open_detector(trained / "model", seed=0).score_block(
        images, [{**configs[0], "side": 4}]
    )
    assert np.array_equal(other.scores[0], block.scores[0]), "the model's own value"


def test_the_same_training_gives_the_same_bytes(road: Path, trained: Path, tmp_path: Path) -> None:
    torch.manual_seed(99)  # what else was drawn does not matter
    train(road / "data", road / "pseudo", tmp_path / "model", detector=SCALED)
    name = "state.safetensors"
    assert (tmp_path / "model" / name).read_bytes() == (trained / "model" / name).read_bytes()


def test_another_fit_needs_the_training_images(
    road: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, model = tmp_path / "data", tmp_path / "model"
    shutil.copytree(road / "data", data)
    train(data, road / "pseudo", model, detector=SCALED)
    command = ["tune", "--model", str(model), "--pseudo", str(road / "pseudo"), "--out",
               str(tmp_path / "run")]  # fmt: skip
    shutil.rmtree(data)
    refused(capsys, command, "side=8 needs a fit, and the training image")
    assert run([*command, "--grid", "side=4"]) == 0, "what is fitted needs no images"
    assert ScoreMatrix.load(tmp_path / "run" / "pseudo_scores.npz").configs[0]["side"] == 4


def test_a_model_that_was_changed_is_refused(trained: Path, tmp_path: Path) -> None:
    shutil.copytree(trained / "model", tmp_path / "model")
    path = tmp_path / "model" / "state.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(UserError, match="does not match its hash"):
        open_detector(tmp_path / "model", seed=0)
    path.unlink()
    with pytest.raises(UserError, match=r"has no state\.safetensors"):
        open_detector(tmp_path / "model", seed=0)


def test_a_state_comes_back_as_it_was(tmp_path: Path) -> None:
    tied = torch.arange(3.0)
    state = {
        "net": {"a.weight": tied, "b.weight": tied, "half": torch.ones(2, dtype=torch.bfloat16)},
        "means": np.arange(6, dtype=np.float16).reshape(2, 3).T, "zero": np.array(2.5),
        "names": ["a", "b", [1, None]], "n": 3, "x": 0.1, "on": True, "none": None, "empty": {},
    }  # fmt: skip
    first = write_state(tmp_path / "a.safetensors", state, {"k": 1}, "fit")
    assert write_state(tmp_path / "b.safetensors", state, {"k": 1}, "fit") == first
    found, about = read_state(tmp_path / "a.safetensors")
    assert about == {"k": 1} and [*found] == [*state]
    assert all(torch.equal(found["net"][name], one) for name, one in state["net"].items())
    assert found["net"]["half"].dtype == torch.bfloat16
    assert np.array_equal(found["means"], state["means"]) and found["means"].dtype == np.float16
    assert isinstance(found["zero"], np.ndarray) and found["zero"].shape == ()
    for name in ("names", "n", "x", "on", "none", "empty"):
        assert found[name] == state[name] and type(found[name]) is type(state[name])


@pytest.mark.parametrize(
    ("state", "what"),
    [
        (3, r"fit returned a value of type int"),
        (None, r"fit returned a value of type NoneType"),
        ({"net": torch.nn.Linear(1, 1)}, r"torch\.nn\.modules\.linear\.Linear at 'net'"),
        ({"a": {"b": (1, 2)}}, r"type tuple at 'a/b'"),
        ({"x": float("nan")}, r"type float at 'x'"),
        ({"x": np.array(["a"])}, r"array of <U1 at 'x'"),
        ({"x": torch.ones(1, dtype=torch.complex64)}, r"array of torch\.complex64 at 'x'"),
        ({1: 2}, r"the key 1"),
    ],
)
def test_a_state_that_cannot_be_kept(tmp_path: Path, state: Any, what: str) -> None:
    with pytest.raises(UserError, match=what):
        write_state(tmp_path / "state.safetensors", state, {}, "fit")
    assert not [*tmp_path.iterdir()]


def test_what_a_parameter_derives() -> None:
    k = Parameter("k", grid=(9, 1, 5))
    assert (k.kind, k.grid, k.default, k.log, k.needs_fit) == ("int", (1, 5, 9), 5, False, False)
    rate = Parameter("rate", grid=(0.01, 1, 0.1, 10))
    assert (rate.kind, rate.grid, rate.default, rate.log) == (
        "float", (0.01, 0.1, 1.0, 10.0), 0.1, True)  # fmt: skip
    layers = Parameter("layers", grid=("2,3", "2"))
    assert (layers.kind, layers.grid, layers.default) == ("categorical", ("2,3", "2"), "2,3")


@pytest.mark.parametrize(
    ("make", "what"),
    [
        (lambda: Parameter("k", grid=(1, 5, 1)), "The grid of k has 1 twice"),
        (lambda: Parameter("k", grid=(1.0, 1)), r"The grid of k has 1\.0 twice"),
        (lambda: Parameter("k", grid=("a", "a")), "The grid of k has 'a' twice"),
        (lambda: Parameter("k", grid=()), r"The grid of k is \(\)"),
        (lambda: Parameter("k", grid="abc"), "The grid of k is 'abc'"),  # type: ignore[arg-type]
        (lambda: Parameter("k", grid=(1, True)), r"give numbers or names"),
        (lambda: Parameter("k", grid=(1, "a")), "numbers and names"),
        (lambda: Parameter("k", grid=("a", "b"), default="c"), "'c', which is not in its grid"),
        (lambda: Parameter("k", grid=(1.0, float("nan"))), "give numbers or names"),
    ],
)
def test_a_parameter_that_makes_no_sense(make: Callable[[], Parameter], what: str) -> None:
    with pytest.raises(UserError, match=what):
        make()


HEAD = "from pseudoval.detectors import Parameter\nimport numpy as np\n"
GOOD = """
class Mine:
    parameters = [Parameter("k", grid=(1, 5, 9)), Parameter("w", grid=(1, 2), needs_fit=True)]
    def fit(self, images, *, w):
        return {"w": w}
    def score(self, loaded, image, *, k):
        return image.mean() * k
"""


def mine(monkeypatch: pytest.MonkeyPatch, folder: Path, text: str) -> str:
    """The name of a detector whose module is in the current folder."""
    name = f"module_{abs(hash((str(folder), text)))}"
    (folder / f"{name}.py").write_text(HEAD + text)
    monkeypatch.chdir(folder)
    return f"{name}:Mine"


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ("class Mine", "class Other", "There is no class 'Mine' in"),
        ("class Mine", "1 / 0\nclass Mine", r"ZeroDivisionError: division by zero \(.*line 4\)"),
        ("class Mine", "import absent_module\nclass Mine", "No module named 'absent_module'"),
        ("class Mine:", "class Mine", "SyntaxError"),
        ("def fit", "def fitting", "has no fit"),
        ("def score", "def scoring", "has no score"),
        ("parameters =", "parameters = 3 #", "The parameters of .* are 3"),
        ('Parameter("w"', 'Parameter("k"', "two parameters 'k'"),
        ("grid=(1, 5, 9)", "grid=(1, 5, 5)", "The grid of k has 5 twice"),
        ("image, *, k", "image, *, j", r"score\(loaded, image, k=\.\.\.\)"),
        ("images, *, w", "images", r"fit\(images, w=\.\.\.\)"),
        ('return {"w": w}', 'return {"w": self}', r"Mine at 'w'"),
        ('return {"w": w}', "return images.shape", r"fit failed with AttributeError: .*line 7"),
        ("return image.mean() * k", "return image", r"an array of shape \(64, 64, 3\)"),
        ("return image.mean() * k", "return [1, 2]", "a list of 2"),
        ("return image.mean() * k", 'return "high"', "a value of type str"),
        ("return image.mean() * k", "return loaded.w", "score failed with AttributeError"),
        ("def score", "def score_many(self, loaded, image, configurations):\n"
         "        return []\n    def score", "a list of 0 for 1 configurations"),
    ],
)  # fmt: skip
def test_mistakes_in_a_class(
    road: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, old: str, new: str, what: str
) -> None:
    name = mine(monkeypatch, tmp_path, GOOD.replace(old, new))
    with pytest.raises(UserError, match=what) as caught:
        train(road / "data", road / "pseudo", tmp_path / "model", detector=name)
    assert "\n" not in str(caught.value)


def test_mistakes_on_the_command_line(
    road: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    name, pseudo = mine(monkeypatch, tmp_path, GOOD), ["--pseudo", str(road / "pseudo")]
    command = ["train", str(road / "data"), *pseudo, "--detector"]
    refused(capsys, [*command, "absent:Mine"], "There is no module 'absent'")
    refused(capsys, [*command, "a b:Mine"], "write it as MODULE:CLASS")
    refused(capsys, [*command, name, "--backbone", "resnet18"], "has no backbone")
    refused(capsys, [*command, name, "--set", "k=5"], f"k of {name} cannot be set")
    refused(capsys, [*command, name, "--set", "w=many"], "w takes numbers, and 'many' is none")
    refused(capsys, [*command, name, "--set", "w=1.5"], "w = 1.5 cannot be scored")
    assert not (tmp_path / "model").exists()
    assert run([*command, name, "--set", "w=2"]) == 0
    for options, what in [
        (["--grid", "k=a,b"], "'a,b' is neither a list"),
        (["--grid", "k=1.5"], "give a list of whole numbers"),
        (["--grid", "depth=3"], "has no parameter depth, only k, w; leave --grid depth=... out"),
        (["--grid", "k"], "not of the form name=value"),
        (["--t", "25"], "has no parameter t"),
    ]:
        refused(capsys, ["tune", *pseudo, *options], what)
    assert not (tmp_path / "run").exists()
    refused(capsys, ["audit", str(road / "pseudo"), "--model", "model"], "has no memory bank")


def test_scores_that_are_no_numbers_never_win(
    road: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    some = GOOD.replace("image.mean() * k", "image.mean() * (np.nan if k == 1 else k)")
    name, pseudo = mine(monkeypatch, tmp_path, some), ["--pseudo", str(road / "pseudo")]
    train(road / "data", road / "pseudo", Path("model"), detector=name)
    assert run(["tune", *pseudo, "--grid", "w=1"]) == 0
    best = json.loads(Path("run/best.json").read_text())
    assert best["params"]["k"] == 5 and best["stages"][0]["objective_value"][0] is None
    assert run(["tune", *pseudo, "--grid", "k=1", "--out", "none"]) == 2
    assert "scores are all numbers" in capsys.readouterr().err.splitlines()[-1]


def test_the_global_random_states_come_back() -> None:
    with seeded("cpu", 3):
        first = torch.rand(1), np.random.random()  # noqa: NPY002
    before = torch.random.get_rng_state()
    with seeded("cpu", 3):
        assert (torch.rand(1), np.random.random()) == first  # noqa: NPY002
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_training_goes_on_with_its_state(
    road: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mistake in ``score`` does not cost the fit."""
    with monkeypatch.context() as broken:
        broken.setattr(Scaled, "score", lambda *a, **k: "no")
        with pytest.raises(UserError, match="a value of type str"):
            train(road / "data", road / "pseudo", tmp_path / "model", detector=SCALED)
    train(road / "data", road / "pseudo", tmp_path / "model", detector=SCALED, resume=True)
    assert Scaled.counted.count("fit 4") == 1


def test_scores_that_fall_are_warned_of(
    road: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, pseudo = str(tmp_path / "model"), ["--pseudo", str(road / "pseudo")]
    train = ["train", str(road / "data"), "--detector", "own_classes:Falling", "--per-category"]
    assert run([*train, *pseudo, "--out", model]) == 0
    assert "Scores of own_classes:Falling may fall with anomaly: 0 of " in capsys.readouterr().err
    assert run(["tune", *pseudo, "--model", model, "--out", str(tmp_path / "run")]) == 0
    assert "may fall with anomaly: the highest pseudo AUROC is 0." in capsys.readouterr().err
