"""The commands that a report prints make the RUN again, whatever it was made with."""

import html
import re
import shlex
from pathlib import Path

import pytest
from helpers import road_commands, with_options

from pseudoval.cli.commands import run
from reports import load_run
from reports.page.provenance import commands

STUDY = """
name = "narrow and fixed"
objective = "image_ap"
rule = "margin"

[[stage]]
name = "k"
fixed.t = 300
values.k = [1, 2]

[[stage]]
name = "t"
values.t = [100, 300]
"""
OPTIONS = {
    "every option": [
        "--study", "k_then_t", "--t", "25,300", "--k", "4,2", "--objective", "image_ap+pixel_ap",
        "--seed", "3", "--set", "diffusion.sampling_steps=3", "--set", "score.pool=4",
        "--audit-joint", "0.34567891", "--study-name", "my study",
    ],
    "several members": ["--pseudo", "{root}/~other", "--repeats", "2", "--rule", "margin",
                        "--t", "25,300", "--k", "1", "--study", "joint"],
    "a study file": ["--study", "{root}/my studies/narrow.toml", "--rule", "best",
                     "--objective", "macro_image_auroc"],
    "neighbours": ["--model", "{root}/bank", "--study", "stages_then_k", "--k", "1,3"],
}  # fmt: skip
TO_THE_PAGE = ("a study file",)
"""What is evaluated, reported and read from the page; of the others the first command will do."""


@pytest.fixture(scope="module")
def workplace(road: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with DATA, a LafitE and a ``knn`` MODEL, two PSEUDO with awkward names, a study."""
    root = tmp_path_factory.mktemp("made again")
    (root / "my studies").mkdir()
    (root / "my studies" / "narrow.toml").write_text(STUDY)
    for name, target in (("data", "data"), ("model", "model"), ("the pseudo set", "pseudo")):
        (root / name).symlink_to(road / target)
    build, train, *_ = road_commands(road)
    assert run(with_options(build, "--generator", "perlin", out=root / "~other")) == 0
    assert run(with_options(train, "--detector", "knn", "--no-cache", out=root / "bank")) == 0
    return root


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.usefixtures("blank_pictures")
def test_printed_commands_make_the_run_again(
    options: str, workplace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = workplace / "runs of mine" / options
    given = [text.format(root=workplace) for text in OPTIONS[options]]
    model = [] if "--model" in given else ["--model", str(workplace / "model")]
    pseudo = ["--pseudo", str(workplace / "the pseudo set")]
    assert run(["tune", "--out", str(made), *model, *pseudo, *given]) == 0
    if options in TO_THE_PAGE:
        assert run(["evaluate", str(made), str(workplace / "data")]) == 0
        assert run(["report", str(made)]) == 0
        page = (made / "report" / "report.html").read_text()
        (pre,) = re.findall(r"<pre>(.*?)</pre>", page, re.DOTALL)
        printed = html.unescape(pre).splitlines()
        assert len(printed) == 3
    else:
        member = made / "pseudo-0-noise-0" if options == "several members" else made
        kind = {"together": {"kind": "seeds"}} if member != made else {}
        printed = commands(load_run(member), kind)[:1]

    for path in workplace.iterdir():
        if path != made.parent:
            (tmp_path / path.name).symlink_to(path)
    again = tmp_path / made.parent.name / options
    again.parent.mkdir()
    monkeypatch.chdir(again.parent)
    for command in printed:
        program, *words = shlex.split(command)
        assert program == "pseudoval"
        assert run([str(workplace / "data") if word == "DATA" else word for word in words]) == 0
    compared = 0
    for path in made.rglob("*"):
        if path.name in ("run.json", "best.json", "correlation.json") or path.suffix == ".npz":
            compared += 1
            assert (again / path.relative_to(made)).read_bytes() == path.read_bytes(), path
    assert compared > 3
