"""Several models in one MODEL folder: seeds, categories, interruption and what is refused."""

import json
from pathlib import Path

import pytest
from helpers import contents, copied, refused, road_commands, with_options

from lafite_core.features import FeatureExtractor
from lafite_core.model import LafiteModel
from pseudoval.cli.commands import run
from pseudoval.data.files import MARKER, folder_kind
from pseudoval.errors import UserError
from pseudoval.models.members import MEMBERS, Members, read_members, recorded_sha256
from pseudoval.models.open import open_detector, open_detectors
from pseudoval.pseudo_set.manifest import load_manifest

LEAVES = ["seed-3/fabric", "seed-3/flange", "seed-4/fabric", "seed-4/flange"]


def test_every_member_is_a_model_folder_of_its_seed_and_category(several: Path, road: Path) -> None:
    model = several / "model"
    assert json.loads((model / MEMBERS).read_text()) == {
        "format_version": 1, "kind": "seeds", "members": ["seed-3", "seed-4"],
    }  # fmt: skip
    assert json.loads((model / "seed-4" / MEMBERS).read_text())["members"] == {
        "fabric": "fabric", "flange": "flange",
    }  # fmt: skip
    kept = json.loads((road / "model" / "model.json").read_text())["info"]["train_images"]
    for place in LEAVES:
        seed, _, category = place.partition("/")
        leaf = LafiteModel.load(model / place)
        assert folder_kind(model / place) == "model"
        assert f"seed-{leaf.seed}" == seed
        assert leaf.info["categories"] == [category]
        assert leaf.info["images"] == kept[category]
        assert (model / place / "loss.png").read_bytes()[1:4] == b"PNG"
    assert len({recorded_sha256(model / place) for place in LEAVES}) == 4


def test_a_category_is_trained_as_it_would_be_alone(
    several: Path, road: Path, tmp_path: Path
) -> None:
    build, train, *_ = road_commands(road)
    alone, model = tmp_path / "alone", tmp_path / "model"
    assert run(with_options(build, "--categories", "flange", out=alone)) == 0
    assert run(with_options(train, "--seed", "4", pseudo=alone, out=model)) == 0
    assert recorded_sha256(model) == recorded_sha256(several / "model" / "seed-4" / "flange")


def test_hash_without_weights_is_that_of_the_opened_model(several: Path) -> None:
    found = open_detectors(several / "model", seed=0)
    assert list(found) == ["seed-3", "seed-4"]
    for name, detector in found.items():
        assert detector.model_sha256 == recorded_sha256(several / "model" / name)
        assert detector.categories == ["fabric", "flange"]
    best = json.loads((several / "run" / "best.json").read_text())
    assert best["model_sha256"] == recorded_sha256(several / "model")
    with pytest.raises(UserError, match=r"several seeds; name one of them: .*seed-3, .*seed-4\."):
        open_detector(several / "model", seed=0)


def test_interrupted_in_the_second_seed_goes_on_without_the_first(
    road: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from lafite_core import fit

    honest, extract = fit.train_network, FeatureExtractor.extract
    seeds, extracted = [], []

    def dies(*arguments, **options):  # type: ignore[no-untyped-def]
        seeds.append(options["seed"])
        if options["seed"] == 1:
            raise KeyboardInterrupt
        return honest(*arguments, **options)

    def counted(*arguments):  # type: ignore[no-untyped-def]
        extracted.append(1)
        return extract(*arguments)

    monkeypatch.setattr(FeatureExtractor, "extract", counted)
    monkeypatch.setattr("lafite_core.fit.train_network", dies)
    out = tmp_path / "model"
    train = with_options(road_commands(road)[1], "--seeds", "2", out=out)
    assert run(train) == 130
    assert "--resume goes on" in capsys.readouterr().err
    assert seeds == [0, 1]
    assert read_members(out) == Members(kind="seeds", names=["seed-0", "seed-1"])
    tune = with_options(road_commands(road)[2], model=out, out=tmp_path / "run")
    refused(capsys, tune, "no finished model in")
    refused(capsys, train, "unfinished training")
    first = contents(out / "seed-0")
    monkeypatch.setattr(
        "lafite_core.fit.train_network", lambda *a, **o: seeds.append(o["seed"]) or honest(*a, **o)
    )
    seeds.clear()
    assert run([*train, "--resume"]) == 0
    assert seeds == [1], "a finished member is not trained again"
    images = len(list((road / "data").glob("*/train/good/*")))
    held_out = len(load_manifest(road / "pseudo")["heldout_train"])
    assert len(extracted) == images - held_out, "features are computed once for all seeds"
    assert contents(out / "seed-0") == first
    assert recorded_sha256(out / "seed-0") == recorded_sha256(road / "model")
    whole = contents(out)
    assert run([*train, "--resume"]) == 0
    assert contents(out) == whole


def test_another_layout_is_refused(
    several: Path, road: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, many = tmp_path / "one", tmp_path / "many"
    copied(road / "model", one)
    copied(several / "model", many)
    train = with_options(road_commands(road)[1], out=one)
    before = contents(tmp_path)
    two = with_options(train, "--seed", "3", "--per-category", "--resume", out=many)
    refused(capsys, [*two, "--seeds", "3"], "not of several seeds (seed-3, seed-4, seed-5)")
    refused(capsys, two, "not of one model per category (fabric, flange)")
    wrong = with_options(train, "--seed", "3", "--seeds", "2", "--resume", out=many)
    refused(capsys, wrong, "not of a single model")
    refused(capsys, [*train, "--resume", "--seeds", "2"], "is a folder of a single model")
    assert contents(tmp_path) == before


def test_bad_input_leaves_no_folder(
    road: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "model"
    train = with_options(road_commands(road)[1], "--seeds", "2", "--per-category", out=out)
    refused(capsys, [*train, "--backbone", "resnet18", "--weights", "none"], "no weights file")
    assert not out.exists()

    def broken(path: Path) -> None:
        raise UserError(f"{path.name} is damaged.")

    monkeypatch.setattr("pseudoval.detectors.features.read_rgb", broken)
    refused(capsys, train, "is damaged")
    assert not out.exists()


@pytest.mark.parametrize(
    "text", ['{"kind": "seeds"}', "[]", '{"format_version": 1, "kind": "folds", "members": []}',
             '{"format_version": 9, "kind": "seeds", "members": ["seed-0"]}', "{"],
)  # fmt: skip
def test_a_damaged_list_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / MARKER).write_text('{"kind": "model"}')
    (tmp_path / MEMBERS).write_text(text)
    with pytest.raises(UserError, match=MEMBERS):
        open_detectors(tmp_path, seed=0)


def test_knn_in_every_layout(road: Path, tmp_path: Path) -> None:
    data, pseudo = str(road / "data"), str(road / "pseudo")
    model, out = str(tmp_path / "model"), tmp_path / "run"
    assert run(["train", data, "--pseudo", pseudo, "--out", model, "--detector", "knn",
                "--preset", "demo", "--set", "features.grid=8", "--seeds", "2",
                "--per-category"]) == 0  # fmt: skip
    assert not list((tmp_path / "model").rglob("loss.png"))
    assert run(["tune", "--study", "k", "--model", model, "--pseudo", pseudo, "--out", str(out),
                "--k", "3,1"]) == 0  # fmt: skip
    assert run(["evaluate", str(out), data]) == 0
    figures = json.loads((out / "figures.json").read_text())
    assert [row["variant"] for row in figures["variants"]] == ["knn"]
    assert figures["seeds"] == ["seed-0", "seed-1"]
