"""The README's road for other detectors, as it is printed there."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from reports import write_report

README = Path(__file__).parents[2] / "README.md"


class Brightness:
    """Scores an image by a quantile of its pixels."""

    def __init__(self, quantile: float) -> None:
        self.quantile = quantile

    def score(self, path: Path) -> float:
        with Image.open(path) as image:
            return float(np.quantile(np.asarray(image), self.quantile))


@pytest.mark.usefixtures("blank_pictures")
def test_ten_lines_lead_to_a_report(
    road: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    (code,) = [block for block in blocks if "heldout_train" in block]
    told: list[set[str]] = []

    def my_detectors(without: set[str]) -> dict[str, Brightness]:
        told.append(without)
        return {f"q={share}": Brightness(share) for share in (0.5, 0.9, 0.99)}

    for name in ("data", "pseudo"):
        (tmp_path / name).symlink_to(road / name)
    monkeypatch.chdir(tmp_path)
    exec(code, {"my_detectors": my_detectors})
    assert told[0] and all((road / "data" / path).is_file() for path in told[0])
    out = write_report([], tmp_path / "by_hand", scores=tmp_path / "pseudo.csv")
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "Chosen without labels: q\u00a0=\u00a00." in page


def test_the_pictures_are_small_and_there() -> None:
    text = README.read_text(encoding="utf-8")
    pictures = [README.parent / name for name in re.findall(r"!\[[^\]]+\]\(([^)]+)\)", text)]
    assert len(pictures) == 2
    assert all(0 < picture.stat().st_size < 300_000 for picture in pictures)
