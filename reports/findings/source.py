"""What a report is made from: a RUN folder, or one or two CSV files of scores."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pseudoval.errors import UserError
from pseudoval.metrics import runs
from pseudoval.metrics.image_metrics import (
    auroc,
    auroc_by_category,
    mean_over_categories,
    require_both_classes,
)
from pseudoval.metrics.score_matrix import Config, ScoreMatrix, config_name
from pseudoval.statistics import objectives
from pseudoval.statistics.rules import BEST, find_rule, select_best, selection_order
from reports.findings.forms import Which

MACRO, POOLED = "macro", "pooled"
TOLERANCE = 1e-9
"""How far an AUROC in best.json may lie from the recomputed one: rounding, nothing more."""


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One stage of the search: one parameter varied, the others fixed.

    Attributes:
        name: of the stage, such as ``t``.
        param: the parameter that varies.
        values: of that parameter, ascending.
        configs: the configuration scored for each value.
        selected: index of the value that the pseudo set chose.
    """

    name: str
    param: str
    values: list[Any]
    configs: list[dict[str, float | str]]
    selected: int


@dataclass(frozen=True, kw_only=True)
class Source:
    """The scores of a run and the choice that was made on them.

    Attributes:
        name: of the RUN folder, or of the score file without its suffix.
        pseudo: scores on the pseudo set; every configuration of every stage is in it.
        test: scores on the real test set; the same categories, at least the same configurations.
        stages: in the order in which they were searched.
        params: the configuration finally chosen.
        rule: which configuration wins, by name; CSVs name none and get ``best``.
        objective: what the study maximised, by name; the macro image AUROC for CSVs.
        member_of: what the RUNs are that this one's study took the mean of, in the plural.
        run: ``run.json``, empty for CSVs.
        audit: of ``best.json``, the cells off the path of the study; None if there are none.
        folder: the RUN folder, None for CSVs.
    """

    name: str
    pseudo: ScoreMatrix
    test: ScoreMatrix | None
    stages: list[Stage]
    params: dict[str, float | str]
    rule: str = BEST
    objective: str = objectives.MACRO
    member_of: str | None = None
    run: Mapping[str, Any] = field(default_factory=dict)
    audit: Mapping[str, Any] | None = None
    folder: Path | None = None

    @property
    def sets(self) -> dict[Which, ScoreMatrix | None]:
        """The two sets by name."""
        return {"pseudo": self.pseudo, "test": self.test}

    @property
    def scored(self) -> list[dict[str, float | str]]:
        """The configurations that regret counts from: of the test set, or else the pseudo set."""
        return self.pseudo.configs if self.test is None else self.test.configs

    @cached_property
    def auroc(self) -> dict[Which, dict[str, np.ndarray]]:
        """For each scored set, ``MACRO``, ``POOLED`` and each category: ``[configs]`` in [0, 1]."""
        return {which: _aurocs(one) for which, one in self.sets.items() if one is not None}

    def curve(self, which: Which, configs: Sequence[Config], category: str) -> np.ndarray:
        """AUROC of some configurations ``[configs]`` on a set; NaN where one has no (full) scores.

        Args:
            category: ``MACRO``, ``POOLED`` or the name of one.
        """
        curve = np.full(len(configs), math.nan)
        matrix = self.sets[which]
        for place, config in enumerate(configs):
            if matrix is not None and config in matrix.configs:
                curve[place] = self.auroc[which][category][matrix.row(config)]
        return curve


def load_run(folder: Path) -> Source:
    """Read a finished RUN of one model on one pseudo set.

    Raises:
        UserError: not a finished RUN, a file missing or damaged, a category with one class only,
            a configuration without scores, or files that contradict each other.
    """
    run = runs.load_run(folder)
    pseudo_path, test_path = folder / "pseudo_scores.npz", folder / "test_scores.npz"
    matrices = {pseudo_path: ScoreMatrix.load(pseudo_path)}
    if test_path.exists():
        matrices[test_path] = ScoreMatrix.load(test_path)
    _require_same_categories(matrices)
    stages = [
        Stage(
            name=stage["name"],
            param=stage["param"],
            values=stage["values"],
            configs=stage["configs"],
            selected=stage["values"].index(stage["selected"]),
        )
        for stage in run.best["stages"]
    ]
    source = Source(
        name=folder.resolve().name,
        pseudo=matrices[pseudo_path],
        test=matrices.get(test_path),
        stages=stages,
        params=run.best["params"],
        rule=run.header["rule"],
        objective=run.header["objective"],
        member_of=run.header.get("members_are"),
        run=run.header,
        audit=run.best.get("audit"),
        folder=folder,
    )
    for path, matrix in matrices.items():
        _require_configs(source, matrix, path)
    find_rule(source.rule)
    _require_same_aurocs(source, run.best)
    return source


def load_csv(scores: Path, test_scores: Path | None = None) -> Source:
    """Read pseudo scores, and real test scores if there are any, from CSV files.

    The stages follow from the configurations, see ``infer_stages``.

    Raises:
        UserError: a file that ``ScoreMatrix.read_csv`` refuses, a configuration twice, a category
            with one class only, or files with different configurations or categories.
    """
    paths = [scores] if test_scores is None else [scores, test_scores]
    matrices = {path: _read_csv(path) for path in paths}
    _require_same_categories(matrices)
    for (elsewhere, other), (path, matrix) in permutations(matrices.items(), 2):
        lacking = [config for config in other.configs if config not in matrix.configs]
        if lacking:
            raise UserError(
                f"{path} has no column for configuration {config_name(lacking[0])!r}, which "
                f"{elsewhere} has; give both files the same score columns."
            )
    pseudo = matrices[scores]
    stages = infer_stages(pseudo.configs, _aurocs(pseudo)[MACRO])
    return Source(
        name=scores.stem,
        pseudo=pseudo,
        test=None if test_scores is None else matrices[test_scores],
        stages=stages,
        params=stages[-1].configs[stages[-1].selected],
    )


def infer_stages(configs: Sequence[Config], values: np.ndarray) -> list[Stage]:
    """The stages that a set of configurations allows, each with its best by ``select_best``.

    Configurations of t without editing (``k`` absent or 0) are stage ``t``; those with ``k > 0``
    at the chosen t (or at any t if there is no stage ``t`` and only one t) are stage ``k``.
    Anything else is a single stage ``configuration``, whose values are the names.

    Args:
        configs: distinct configurations.
        values: pseudo AUROC of each.
    """
    auroc = {config_name(config): value for config, value in zip(configs, values, strict=True)}

    def stage(param: str, members: Sequence[Config]) -> Stage:
        order = selection_order(members, np.zeros(len(members)))  # all tied: by configuration
        ascending = [dict(members[row]) for row in order]
        return Stage(
            name=param,
            param=param,
            values=[c[param] if param in c else config_name(c) for c in ascending],
            configs=ascending,
            selected=select_best(ascending, [auroc[config_name(c)] for c in ascending]),
        )

    plain = [c for c in configs if "t" in c and not c.get("k", 0)]
    edited = [c for c in configs if c not in plain]
    text = any(isinstance(value, str) for config in configs for value in config.values())
    if text or not set().union(*configs) <= {"t", "k"}:
        return [stage("configuration", configs)]
    if plain:
        first = stage("t", plain)
        reached = [c for c in edited if c.get("t") == first.values[first.selected]]
        if reached:
            return [first, stage("k", reached)]
        if not edited:
            return [first]
    elif len({c.get("t") for c in edited}) == 1:
        return [stage("k", edited)]
    return [stage("configuration", configs)]


def stage_configs(source: Source) -> list[dict[str, float | str]]:
    """The configurations of all stages, each once, in order: what the choice was made among."""
    found: list[dict[str, float | str]] = []
    for stage in source.stages:
        found += [config for config in stage.configs if config not in found]
    return found


def set_sizes(matrix: ScoreMatrix) -> dict[str, Any]:
    """Images, normal and anomalous ones, and groups, of a set and of each category."""
    table = pd.DataFrame(
        {"category": matrix.categories, "label": matrix.labels, "group": matrix.groups}
    )

    def counted(rows: pd.DataFrame) -> dict[str, int]:
        return {
            "images": len(rows),
            "normal": int((rows["label"] == 0).sum()),
            "anomalous": int((rows["label"] == 1).sum()),
            "groups": len(rows[["category", "group"]].drop_duplicates()),
        }

    by_category = {str(name): counted(rows) for name, rows in table.groupby("category")}
    return {**counted(table), "categories": by_category}


def _aurocs(matrix: ScoreMatrix) -> dict[str, np.ndarray]:
    table = auroc_by_category(matrix.scores, matrix.categories, matrix.labels)
    return {
        MACRO: mean_over_categories(table),
        POOLED: auroc(matrix.scores, matrix.labels),
        **dict(zip(matrix.category_names, table.T, strict=True)),
    }


def _read_csv(path: Path) -> ScoreMatrix:
    matrix = ScoreMatrix.read_csv(path)
    for row, config in enumerate(matrix.configs):
        if config in matrix.configs[:row]:
            raise UserError(
                f"{path}: configuration {config_name(config)!r} has two columns; keep one."
            )
    return matrix


def _require_configs(source: Source, matrix: ScoreMatrix, path: Path) -> None:
    """Check that all configurations are there, and that the chosen ones have all their scores."""
    chosen = [*(stage.configs[stage.selected] for stage in source.stages), source.params]
    for config in [*stage_configs(source), source.params]:
        if config not in matrix.configs or (
            config in chosen and np.isnan(matrix.scores[matrix.row(config)]).any()
        ):
            command = "tune" if matrix is source.pseudo else "evaluate"
            raise UserError(
                f"{path} has no (full) scores of configuration {config_name(config)}; run "
                f"'pseudoval {command}' again."
            )


def _require_same_aurocs(source: Source, best: runs.Best) -> None:
    """Check that ``best.json`` and the score matrix are of the same study."""
    for stage, result in zip(source.stages, best["stages"], strict=True):
        written = np.array(result["pseudo_auroc"], dtype=np.float64)  # null is NaN
        found = source.curve("pseudo", stage.configs, MACRO)
        if not np.allclose(written, found, rtol=0, atol=TOLERANCE, equal_nan=True):
            raise UserError(
                f"{source.folder} is inconsistent: best.json and pseudo_scores.npz give stage "
                f"{stage.name} other AUROCs; run 'pseudoval tune' again."
            )


def _require_same_categories(matrices: Mapping[Path, ScoreMatrix]) -> None:
    """Check that all files have the same categories, with both classes and usable names."""
    for path, matrix in matrices.items():
        require_both_classes(matrix.categories, matrix.labels, str(path))
        for name in (MACRO, POOLED):
            if name in matrix.categories:
                raise UserError(
                    f"Category {name!r} in {path} has a name that the report gives to the {name} "
                    "AUROC; rename it."
                )
    for (elsewhere, other), (path, matrix) in permutations(matrices.items(), 2):
        for name in other.category_names:
            if name not in matrix.categories:
                raise UserError(
                    f"{path} has no images of category {name!r}, which {elsewhere} has; score the "
                    "same categories on both sets."
                )
