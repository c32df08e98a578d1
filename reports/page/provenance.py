"""Where a report comes from: hashes, seeds, versions and the commands that make it again."""

import os
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pseudoval
from pseudoval.metrics.runs import Run, ValuesForm, load_run
from reports.findings.source import Source

TITLES = {
    "model_sha256": "model (SHA-256)",
    "split_sha256": "split (SHA-256)",
    "pseudo_sha256": "pseudo set (SHA-256)",
    "data_sha256": "images (SHA-256)",
}


def commands(source: Source, correlation: Mapping[str, Any]) -> list[str]:
    """The commands that make the run and this report again.

    Paths are as seen from beside the RUN folders. Of score files and of several RUNs only the
    report can be made again.
    """
    together = correlation.get("together")
    if together is not None and together["kind"] == "runs":
        return [shlex.join(["pseudoval", "report", *(row["run"] for row in together["rows"])])]
    if source.folder is None:
        matrices = {"--scores": source.pseudo, "--test-scores": source.test}
        files = [
            word
            for option, matrix in matrices.items()
            if matrix is not None
            for word in (option, matrix.header["source"])
        ]
        return [shlex.join(["pseudoval", "report", *files])]
    run = load_run(source.folder if together is None else source.folder.parent)
    out = run.folder.resolve().name
    evaluate = [["evaluate", out, "DATA"]] if source.test is not None else []
    made = [_tune(run, out), *evaluate, ["report", out]]
    return [shlex.join(["pseudoval", *words]) for words in made]


def _tune(run: Run, out: str) -> list[str]:
    """The ``tune`` that made a RUN, with every option that its result depends on.

    Those that equal today's defaults too: a study file may name others, and defaults may change.
    """
    header = run.header

    def beside(path: str) -> str:
        return Path(os.path.normpath(Path(out, path))).as_posix()

    options: list[tuple[str, Any]] = [("model", beside(header["model"]))]
    options += [("pseudo", beside(path)) for path in header["pseudo"]]
    if "study_file" in header:
        options.append(("study", beside(header["study_file"])))
    else:
        grids = {name: _values(grid) for name, grid in header["grids"].items()}
        options.append(("study", header["study"]))
        options += [(name, grids.pop(name)) for name in ("t", "k") if name in grids]
        options += [("grid", f"{name}={values}") for name, values in grids.items()]
    options += [(name, header[name]) for name in ("sampler", "trials") if name in header]
    options += [("set", f"{name}={value}") for name, value in header["scoring"].items()]
    options += [(name, header[name]) for name in ("objective", "rule", "seed", "repeats", "device")]
    options.append(("study-name", header["study_name"]))
    if "audit" in run.best:
        options.append(("audit-joint", run.best["audit"]["share"]))
    options.append(("out", out))
    return ["tune", *(word for name, value in options for word in (f"--{name}", str(value)))]


def _values(grid: ValuesForm) -> str:
    """The values of a parameter as an option has them."""
    if isinstance(grid, list):
        named = any("," in str(value) for value in grid)
        return (";" if named else ",").join(map(str, grid))
    step = "" if grid["step"] is None else f":{grid['step']}"
    return f"{grid['from']}..{grid['to']}{step}"


def facts(source: Source, correlation: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What the run and its score matrices say of themselves, without saying it twice."""
    bootstrap = correlation["bootstrap"]
    rows = [
        ("report made with", f"pseudoval {pseudoval.__version__}"),
        ("bootstrap", f"{bootstrap['replicates']} replicates, seed {bootstrap['seed']}"),
    ]
    for key, value in source.run.items():
        rows += _flat(TITLES.get(key, key.replace("_", " ")), value)
    for title, matrix in (("pseudo scores", source.pseudo), ("real test scores", source.test)):
        if matrix is None:
            continue
        rows.append((title, f"{len(matrix.configs)} configurations × {len(matrix.images)} images"))
        for key, value in matrix.header.items():
            if source.run.get(key) != value:
                rows += _flat(f"{title}: {TITLES.get(key, key.replace('_', ' '))}", value)
    return rows


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
