"""What a report is made from: a RUN folder, or one or two CSV files of scores."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pseudoval.errors import UserError
from pseudoval.metrics import runs
from pseudoval.metrics.image_metrics import (
    auroc,
    auroc_by_category,
    macro_auroc,
    require_both_classes,
)
from pseudoval.metrics.score_matrix import Config, ScoreMatrix, config_name
from pseudoval.statistics import objectives
from pseudoval.statistics.rules import BEST, select_best, selection_order

MACRO, POOLED = "macro", "pooled"


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
    values: list[float | str]
    configs: list[dict[str, float | str]]
    selected: int


@dataclass(frozen=True, kw_only=True)
class Aurocs:
    """Image AUROC of every configuration of a score matrix.

    Attributes:
        configs: of the matrix.
        values: for ``MACRO``, ``POOLED`` and each category ``[configs]`` float64 in [0, 1].
    """

    configs: list[dict[str, float | str]]
    values: dict[str, np.ndarray]

    def curve(self, configs: Sequence[Config], category: str) -> list[float]:
        """Those of some configurations, in their order; NaN where one has no (full) scores."""
        values = self.values[category]
        rows = [self.configs.index(dict(c)) if c in self.configs else None for c in configs]
        return [math.nan if row is None else float(values[row]) for row in rows]


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
    pseudo_auroc: Aurocs
    test_auroc: Aurocs | None
    stages: list[Stage]
    params: dict[str, float | str]
    rule: str = BEST
    objective: str = objectives.MACRO
    member_of: str | None = None
    run: Mapping[str, Any] = field(default_factory=dict)
    audit: Mapping[str, Any] | None = None
    folder: Path | None = None


def load_run(folder: Path) -> Source:
    """Read a finished RUN of one model on one pseudo set.

    Raises:
        UserError: not a finished RUN, a file missing or damaged, a category with one class only,
            or a configuration without scores.
    """
    run = runs.load_run(folder)
    pseudo_path, test_path = folder / "pseudo_scores.npz", folder / "test_scores.npz"
    pseudo = ScoreMatrix.load(pseudo_path)
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
    params = run.best["params"]
    _require_configs(pseudo, stages, params, pseudo_path, "pseudoval tune")
    test = None
    if test_path.exists():
        test = ScoreMatrix.load(test_path)
        _require_same_categories(pseudo, test, pseudo_path, test_path)
        _require_configs(test, stages, params, test_path, "pseudoval evaluate")
    return Source(
        name=folder.resolve().name,
        pseudo=pseudo,
        test=test,
        pseudo_auroc=_aurocs(pseudo, pseudo_path),
        test_auroc=None if test is None else _aurocs(test, test_path),
        stages=stages,
        params=params,
        rule=run.header["rule"],
        objective=run.header["objective"],
        member_of=run.header.get("members_are"),
        run=run.header,
        audit=run.best.get("audit"),
        folder=folder,
    )


def load_csv(scores: Path, test_scores: Path | None = None) -> Source:
    """Read pseudo scores, and real test scores if there are any, from CSV files.

    The stages follow from the configurations, see ``infer_stages``.

    Raises:
        UserError: a file that ``ScoreMatrix.read_csv`` refuses, a configuration twice, a category
            with one class only, or files with different configurations or categories.
    """
    pseudo = _read_csv(scores)
    pseudo_auroc = _aurocs(pseudo, scores)
    test = None
    if test_scores is not None:
        test = _read_csv(test_scores)
        _require_same_categories(pseudo, test, scores, test_scores)
        for one, other, path, elsewhere in (
            (pseudo, test, test_scores, scores),
            (test, pseudo, scores, test_scores),
        ):
            lacking = [config for config in one.configs if config not in other.configs]
            if lacking:
                raise UserError(
                    f"{path} has no column for configuration {config_name(lacking[0])!r}, which "
                    f"{elsewhere} has; give both files the same score columns."
                )
    stages = infer_stages(pseudo.configs, pseudo_auroc.values[MACRO])
    return Source(
        name=scores.stem,
        pseudo=pseudo,
        test=test,
        pseudo_auroc=pseudo_auroc,
        test_auroc=None if test is None or test_scores is None else _aurocs(test, test_scores),
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
    staged = all(set(c) <= {"t", "k"} and not _has_text(c) for c in configs)
    plain = [row for row, c in enumerate(configs) if "t" in c and not c.get("k", 0)]
    edited = [row for row in range(len(configs)) if row not in plain]
    stages = []
    if staged and plain:
        stages.append(_stage("t", configs, values, plain))
        chosen = stages[0].values[stages[0].selected]
        reached = [row for row in edited if configs[row].get("t") == chosen]
        if reached:
            return [*stages, _stage("k", configs, values, reached)]
        if not edited:
            return stages
    elif staged and len({c.get("t") for c in configs}) == 1:
        return [_stage("k", configs, values, edited)]
    return [_stage("configuration", configs, values, list(range(len(configs))))]


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

    by_category = table.groupby("category")
    names = matrix.category_names
    return {
        **counted(table),
        "categories": {name: counted(by_category.get_group(name)) for name in names},
    }


def _stage(param: str, configs: Sequence[Config], values: np.ndarray, rows: list[int]) -> Stage:
    members = [dict(configs[row]) for row in rows]
    ascending = selection_order(members, [0.0] * len(members))  # all tied: by configuration
    members = [members[index] for index in ascending]
    return Stage(
        name=param,
        param=param,
        values=[c[param] if param in c else config_name(c) for c in members],
        configs=members,
        selected=select_best(members, values[[rows[index] for index in ascending]]),
    )


def _aurocs(matrix: ScoreMatrix, path: Path) -> Aurocs:
    require_both_classes(matrix.categories, matrix.labels, str(path))
    for name in (MACRO, POOLED):
        if name in matrix.categories:
            raise UserError(
                f"Category {name!r} in {path} has a name that the report gives to the {name} "
                "AUROC; rename it."
            )
    table = auroc_by_category(matrix.scores, matrix.categories, matrix.labels)
    return Aurocs(
        configs=matrix.configs,
        values={
            MACRO: macro_auroc(matrix.scores, matrix.categories, matrix.labels),
            POOLED: auroc(matrix.scores, matrix.labels),
            **dict(zip(matrix.category_names, table.T, strict=True)),
        },
    )


def _read_csv(path: Path) -> ScoreMatrix:
    matrix = ScoreMatrix.read_csv(path)
    for row, config in enumerate(matrix.configs):
        if config in matrix.configs[:row]:
            raise UserError(
                f"{path}: configuration {config_name(config)!r} has two columns; keep one."
            )
    return matrix


def _require_configs(
    matrix: ScoreMatrix, stages: list[Stage], params: Config, path: Path, command: str
) -> None:
    """Check that all configurations are there, and that the chosen ones have all their scores."""
    chosen = [*(stage.configs[stage.selected] for stage in stages), params]
    for config in [*(config for stage in stages for config in stage.configs), params]:
        if config not in matrix.configs or (
            config in chosen and np.isnan(matrix.scores[matrix.row(config)]).any()
        ):
            raise UserError(
                f"{path} has no (full) scores of configuration {config_name(config)}; run "
                f"'{command}' again."
            )


def _require_same_categories(
    pseudo: ScoreMatrix, test: ScoreMatrix, pseudo_path: Path, test_path: Path
) -> None:
    for name in sorted(set(pseudo.categories) ^ set(test.categories)):
        has, lacks = pseudo_path, test_path
        if name in test.categories:
            has, lacks = lacks, has
        raise UserError(
            f"{lacks} has no images of category {name!r}, which {has} has; score the same "
            "categories on both sets."
        )


def _has_text(config: Config) -> bool:
    return any(isinstance(value, str) for value in config.values())
