from dataclasses import replace
from pathlib import Path

import pytest

from pseudoval.data.files import sha256_file
from pseudoval.errors import UserError
from pseudoval.tasks import Written, shared, shared_disk


def test_a_folder_is_known_by_its_token(tmp_path: Path) -> None:
    with shared(tmp_path / "blocks") as place:
        assert place.folder.is_absolute()
        assert place.is_here()
        assert not replace(place, token="of another run").is_here()
        assert not replace(place, folder=tmp_path).is_here()
    assert list((tmp_path / "blocks").iterdir()) == []


def test_a_file_that_does_not_appear_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_disk, "SEEN_AFTER", 0.2)
    path = tmp_path / "block.npz"
    with pytest.raises(UserError, match=r"block\.npz was written by a worker"):
        Written(path=path, sha256="0" * 64).require()
    path.write_bytes(b"scores")
    Written(path=path, sha256=sha256_file(path)).require()
    with pytest.raises(UserError, match=r"block\.npz"):
        Written(path=path, sha256="0" * 64).require()
