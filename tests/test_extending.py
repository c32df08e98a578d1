"""The recipes of docs/extending.md, applied to a copy of the packages and used from a shell."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
RECIPES = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")

ALL_COMMANDS = """
import sys
from pseudoval.cli.commands import run
from reports.figures import style
style._encode = lambda figure, kind, **options: b""  # as the fixture blank_pictures
for line in sys.stdin:
    if run(line.split()):
        sys.exit(line)
"""
"""One process for all of them, since each would load torch again."""


def blocks(language: str) -> list[str]:
    """The code blocks of the page in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", RECIPES, flags=re.MULTILINE | re.DOTALL)


def add_row(registry: Path, name: str, lines: list[str]) -> None:
    """Put imports among the imports of a file, and a row at the end of one of its registries."""
    text = registry.read_text(encoding="utf-8")
    imports = "".join(f"{line}\n" for line in lines if line.startswith("from "))
    row = "".join(f"{line}\n" for line in lines if not line.startswith("from "))
    first = re.search(r"^from (pseudoval|reports)\.", text, flags=re.MULTILINE)
    assert first is not None
    text = text[: first.start()] + imports + text[first.start() :]
    found = re.search(
        rf"^{name}\b[^\n]*= [({{]\n.*?(?=^[)}}])", text, flags=re.MULTILINE | re.DOTALL
    )
    assert found is not None, f"{registry} has no {name}"
    registry.write_text(text[: found.end()] + row + text[found.end() :], encoding="utf-8")


@pytest.fixture(scope="module")
def extended(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``data`` and the packages after every recipe, in which its commands ran."""
    from pseudoval.demo import render_dataset

    folder = tmp_path_factory.mktemp("extending")
    packages = folder / "packages"
    for name in ("pseudoval", "lafite_core", "studies", "reports"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, packages / name, ignore=ignored)
    for block in blocks("python"):
        head, *lines = block.splitlines()
        if row := re.fullmatch(r"# a row of (\w+) in (\S+)", head):
            add_row(packages / row[2], row[1], lines)
        else:
            path = packages / head.removeprefix("# ")
            assert not path.exists(), f"{path} is not a new file"
            path.write_text(block, encoding="utf-8")
    (folder / "data").mkdir()
    render_dataset(folder / "data", seed=0, size=64, train=9, test_good=3, defects_per_kind=1,
                   categories=["fabric", "flange"])  # fmt: skip
    lines = "".join(blocks("sh")).replace("pseudoval ", "").replace("DATA", "data")
    done = subprocess.run(
        [sys.executable, "-c", ALL_COMMANDS], input=lines, cwd=folder, capture_output=True,
        env={**os.environ, "PYTHONPATH": str(packages)}, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder


def test_the_generator_made_the_set(extended: Path) -> None:
    generator = json.loads((extended / "pseudo" / "manifest.json").read_text())["generator"]
    assert generator["name"] == "spots"
    assert generator["parameters"]["radius"] == [4, 6]


def test_the_detector_was_tuned_and_evaluated(extended: Path) -> None:
    best = json.loads((extended / "run" / "best.json").read_text())
    assert [stage["name"] for stage in best["stages"]] == ["percentile", "space"]
    assert best["params"]["percentile"] in (90, 99, 100)
    figures = json.loads((extended / "run" / "figures.json").read_text())
    assert figures["detector"] == "colour:Colour"
    assert figures["variants"][0]["mean"]["image_auroc"]["value"] is not None


def test_the_rule_chose(extended: Path) -> None:
    assert json.loads((extended / "middle" / "run.json").read_text())["rule"] == "middle"


def test_the_statistic_stands_in_the_report(extended: Path) -> None:
    report = extended / "run" / "report"
    found = json.loads((report / "correlation.json").read_text())
    for part in (found, *found["per_category"].values()):
        for stage in part["stages"]:
            curve = stage["pseudo_auroc"]
            rise = curve[stage["values"].index(stage["selected"])] - sum(curve) / len(curve)
            assert stage["pseudo_rise"] == pytest.approx(rise)
        assert "pseudo_rise" in part["final"]
    page = (report / "report.html").read_text()
    assert "rise of the choice above the mean</th>" in page
    assert "A rise is the pseudo AUROC of the choice" in page
