"""A few kills here; a hundred with the benchmark."""

import shutil
from pathlib import Path

from kill import patched


def test_five_kills_lose_nothing(road: Path, tmp_path: Path) -> None:
    for name in ("data", "pseudo", "model"):
        shutil.copytree(road / name, tmp_path / name)
    found = patched(5, 1, tmp_path)
    assert found["figures"]["kills_survived"]["ours"] == 5
    assert found["checks"]["blocks lost"] <= 5
    assert found["checks"]["studies"] > 1
