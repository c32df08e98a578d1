"""Where a report comes from: hashes, seeds, versions and the commands that make it again."""

import re
import shlex
from collections.abc import Mapping
from typing import Any

import pseudoval
from pseudoval.statistics.objectives import MACRO
from pseudoval.statistics.rules import BEST
from reports.findings.source import Source

TITLES = {
    "model_sha256": "model (SHA-256)",
    "split_sha256": "split (SHA-256)",
    "pseudo_sha256": "pseudo set (SHA-256)",
    "data_sha256": "images (SHA-256)",
}


def commands(source: Source, correlation: Mapping[str, Any]) -> list[str]:
    """The commands that make the run and this report again.

    Paths are as seen from the RUN folder, or from beside the folders of several. Of score files
    and of several RUNs only the report can be made again.
    """
    together = correlation.get("together")
    if together is not None:
        rows = [row["run"] for row in together["rows"]] if together["kind"] == "runs" else ["."]
        return [shlex.join(["pseudoval", "report", *rows])]
    if source.folder is None:
        files = [source.pseudo, *([source.test] if source.test is not None else [])]
        words = ["pseudoval", "report"]
        for option, matrix in zip(("--scores", "--test-scores"), files, strict=False):
            words += [option, str(matrix.header.get("source", "scores.csv"))]
        return [shlex.join(words)]
    run = source.run
    tune = ["pseudoval", "tune"]
    for option, key in (("study", "study_file" if "study_file" in run else "study"),
                        ("model", "model")):  # fmt: skip
        if key in run:
            tune += [f"--{option}", str(run[key])]
    pseudo = run.get("pseudo", [])
    for path in pseudo if isinstance(pseudo, list) else [pseudo]:
        tune += ["--pseudo", str(path)]
    grids = run.get("grids", {}) if "study_file" not in run else {}
    for name in ("t", "k"):
        if name in grids:
            tune += [f"--{name}", ",".join(f"{value:g}" for value in grids[name])]
    if source.objective != MACRO:
        tune += ["--objective", source.objective]
    if source.rule != BEST:
        tune += ["--rule", source.rule]
    if "seed" in run:
        tune += ["--seed", str(run["seed"])]
    if run.get("repeats", 1) > 1:
        tune += ["--repeats", str(run["repeats"])]
    share = (source.best.get("audit") or {}).get("share")
    if share is not None:
        tune += ["--audit-joint", f"{share:g}"]
    made = [shlex.join([*tune, "--out", "."])]
    if source.test is not None:
        made.append("pseudoval evaluate . DATA")
    return [*made, "pseudoval report ."]


def facts(source: Source, correlation: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What the run and its score matrices say of themselves, without saying it twice."""
    bootstrap = correlation["bootstrap"]
    rows = [
        ("report made with", f"pseudoval {pseudoval.__version__}"),
        ("bootstrap", f"{bootstrap['replicates']} replicates, seed {bootstrap['seed']}"),
    ]
    known = {**{k: v for k, v in source.best.items() if k in FROM_BEST}, **source.run}
    for key, value in known.items():
        rows += _flat(TITLES.get(key, key.replace("_", " ")), value)
    for title, matrix in (("pseudo scores", source.pseudo), ("real test scores", source.test)):
        if matrix is None:
            continue
        rows.append((title, f"{len(matrix.configs)} configurations × {len(matrix.images)} images"))
        for key, value in matrix.header.items():
            if known.get(key) != value:
                rows += _flat(f"{title}: {TITLES.get(key, key.replace('_', ' '))}", value)
    return rows


FROM_BEST = ("objective", "seed", "split_sha256", "model_sha256")


def _flat(name: str, value: Any) -> list[tuple[str, str]]:
    """One row for a value, a list or a flat mapping, a row for each part of a deeper one."""
    if isinstance(value, Mapping):
        if any(isinstance(inner, Mapping | list) for inner in value.values()):
            return [row for key, inner in value.items() for row in _flat(f"{name}: {key}", inner)]
        return [(name, ", ".join(f"{key} {_text(inner)}" for key, inner in value.items()))]
    if isinstance(value, list):
        return [(name, ", ".join(_text(inner) for inner in value))]
    return [(name, _text(value))]


def _text(value: Any) -> str:
    # A storage URL may carry a password, and a report is made to be passed on.
    return "–" if value is None else re.sub(r"//[^/@\s]+@", "//…@", str(value))
