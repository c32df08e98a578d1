"""Reading pseudo sets, and the normals that they leave to train on."""

import json
from pathlib import Path

import pytest
from helpers import texture
from PIL import Image

from pseudoval.errors import UserError
from pseudoval.pseudo_set.build import build
from pseudoval.pseudo_set.manifest import bank_normals, load_manifest


def test_bad_manifests(data: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no pseudo set at"):
        load_manifest(tmp_path / "none")
    out = tmp_path / "out"
    manifest = build(data, out)
    path = out / "manifest.json"
    for text, match in (
        ("{", "cannot be read"),
        ("[]", "not a JSON object"),
        (json.dumps({**manifest, "format_version": 2}), "format version 2"),
        (json.dumps({k: v for k, v in manifest.items() if k != "split_sha256"}), "split_sha256"),
        (json.dumps({**manifest, "images": [{}]}), r"images\[0\]\.path"),
    ):
        path.write_text(text)
        with pytest.raises(UserError, match=match):
            load_manifest(out)


def test_bank_is_what_was_not_held_out(data: Path, tmp_path: Path) -> None:
    manifest = build(data, tmp_path / "out", categories=["b"])
    bank = bank_normals(data, manifest)
    assert bank.keys() == {"b"} and len(bank["b"]) == 6
    names = {item.id for item in bank["b"]}
    assert names == {f"b/train/good/{i:03}.png" for i in range(8)} - set(manifest["heldout_train"])
    assert all(item.label == 0 and item.path.is_file() for item in bank["b"])


def test_bank_refuses_changed_data(data: Path, tmp_path: Path) -> None:
    manifest = build(data, tmp_path / "out")
    held = data / manifest["heldout_train"][0]
    content = held.read_bytes()
    for suffix, match in ((".png", "copy of the held-out"), (".bmp", "copy of the held-out")):
        copy = held.with_name(f"copy{suffix}")
        Image.open(held).save(copy)
        with pytest.raises(UserError, match=match):
            bank_normals(data, manifest)
        copy.unlink()
    Image.fromarray(texture(999)).save(held)
    with pytest.raises(UserError, match="has other content now: the data changed"):
        bank_normals(data, manifest)
    held.unlink()
    with pytest.raises(UserError, match="is missing: the data changed"):
        bank_normals(data, manifest)
    held.write_bytes(content)
    for item in bank_normals(data, manifest)["a"]:
        item.path.unlink()
    with pytest.raises(UserError, match="no normal left"):
        bank_normals(data, manifest)
