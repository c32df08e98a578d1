"""A MODEL folder is read whole, or refused with what is wrong with it."""

import json
from pathlib import Path

import pytest
from helpers import copied

from lafite_core.errors import LafiteError
from lafite_core.model import LafiteModel


@pytest.fixture
def folder(road: Path, tmp_path: Path) -> Path:
    return copied(road / "model", tmp_path / "model")


def change(folder: Path, **values: object) -> None:
    path = folder / "model.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def test_an_older_format_is_refused(folder: Path) -> None:
    change(folder, format_version=1)
    with pytest.raises(LafiteError, match=r"has format 1; this version reads 2. Train it again"):
        LafiteModel.load(folder)


def test_an_option_of_another_version_is_named(folder: Path) -> None:
    config = json.loads((folder / "model.json").read_text())["config"]
    config["unet"]["depth"] = 3
    change(folder, config=config)
    with pytest.raises(LafiteError, match=r"unknown option unet.depth"):
        LafiteModel.load(folder)


def test_a_model_from_before_a_section_of_options_is_read(folder: Path) -> None:
    model = LafiteModel.load(folder)
    found = json.loads((folder / "model.json").read_text())
    del found["config"]["uniad"]
    sha256 = model._sha256({name: found[name] for name in model.header()})
    change(folder, config=found["config"], model_sha256=sha256)
    assert LafiteModel.load(folder).config == model.config


@pytest.mark.parametrize("name", ["bank", "unet"])
def test_a_changed_byte_is_noticed(folder: Path, name: str) -> None:
    path = folder / f"{name}.safetensors"
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(LafiteError, match="does not match its hash"):
        LafiteModel.load(folder)


@pytest.mark.parametrize("name", ["bank", "unet"])
def test_a_file_cut_short_is_named(folder: Path, name: str) -> None:
    path = folder / f"{name}.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(LafiteError, match=rf"{name}.safetensors cannot be read"):
        LafiteModel.load(folder)


def test_an_unfinished_training_is_no_model(folder: Path) -> None:
    (folder / "model.json").unlink()
    with pytest.raises(LafiteError, match=r"no finished model.*train --resume"):
        LafiteModel.load(folder)
