"""Does the choice survive leaving out a category, or a generator of the pseudo anomalies?"""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import PurePosixPath

import numpy as np

from pseudoval.metrics.score_matrix import Config, ScoreMatrix
from pseudoval.statistics.bootstrap import Replicates, averaged
from pseudoval.statistics.objectives import bootstrap, needs_pixels, values
from pseudoval.statistics.rules import select
from pseudoval.statistics.separation import separation
from reports.findings.forms import LeftOut
from reports.findings.names import ordered
from reports.findings.source import Source, Stage


def stability(source: Source) -> list[LeftOut]:
    """The choice of each stage, made again without one category or generator at a time.

    Later stages were scored at the values that the earlier ones chose on the whole set, so each
    stage is judged by itself: ``selected`` gives the value by stage, and ``same`` says whether
    the rule of the run chooses what it chooses on the whole set.
    """
    parts = {"category": source.pseudo.categories, "generator": image_generators(source.pseudo)}
    found = []
    for what, of_images in parts.items():
        names = sorted(set(of_images) - {""})
        if len(names) > 1:
            found += [_without(source, what, n, np.array(of_images) != n) for n in names]
    return [entry for entry in found if entry is not None]


def image_generators(matrix: ScoreMatrix) -> list[str]:
    """Generator of each pseudo anomaly, the folder that it lies in; "" for normal images."""
    return [
        PurePosixPath(image).parent.name if label == 1 else ""
        for image, label in zip(matrix.images, matrix.labels, strict=True)
    ]


def _without(source: Source, what: str, name: str, kept: np.ndarray) -> LeftOut | None:
    """None if no category keeps both classes, or a part has no pixel values of its own."""
    matrix = source.pseudo
    names = np.array(matrix.categories)
    whole = {
        category
        for category in matrix.category_names
        if len(set(matrix.labels[kept & (names == category)].tolist())) == 2
    }
    rows = np.flatnonzero(kept & np.isin(names, sorted(whole)))
    by_image = what != "category"
    if not rows.size or (by_image and needs_pixels(source.objective)):
        return None
    columns = [place for place, one in enumerate(matrix.category_names) if one in whole]
    left = replace(
        matrix,
        scores=matrix.scores[:, rows],
        images=_at(matrix.images, rows),
        categories=_at(matrix.categories, rows),
        labels=matrix.labels[rows],
        groups=_at(matrix.groups, rows),
        pixel={} if by_image else {key: v[:, columns] for key, v in matrix.pixel.items()},
        pixel_reason=[matrix.pixel_reason[place] for place in columns if matrix.pixel_reason],
    )
    selected = {stage.name: _choice(source, stage, [left]) for stage in source.stages}
    return {"left_out": what, "name": name, "selected": selected, "same": selected == alone(source)}


def alone(source: Source) -> dict[str, float | str]:
    """The value that the rule of the run takes from its own pseudo AUROCs, by stage.

    It is the choice itself, but where that was made on the mean of several seeds.
    """
    return {stage.name: _choice(source, stage, [source.pseudo]) for stage in source.stages}


def best_of(source: Source, configs: Sequence[Config]) -> int:
    """Place of the one among some configurations that objective and rule of a run take."""
    return _row(source, configs, [source.pseudo])


def alone_params(source: Source) -> dict[str, float | str]:
    """The values of ``alone`` as one configuration, which need not have been scored."""
    own = alone(source)
    last = source.stages[-1]
    config = dict(last.configs[last.values.index(own[last.name])])
    for stage in source.stages[:-1]:
        config[stage.param] = own[stage.name]
    return ordered(config)


def without_each_seed(sources: Sequence[Source]) -> list[LeftOut]:
    """The choice on the mean of all seeds but one, as ``stability`` gives it for other parts."""

    def choice(kept: Sequence[Source]) -> dict[str, float | str]:
        matrices = [source.pseudo for source in kept]
        return {s.name: _choice(kept[0], s, matrices) for s in sources[0].stages}

    whole = choice(sources)
    names = {"seeds": "seed", "pseudo sets": "pseudo set"}
    what = names.get(sources[0].member_of or "", "scoring")
    without = {s.name: choice([one for one in sources if one is not s]) for s in sources}
    return [
        {"left_out": what, "name": name, "selected": selected, "same": selected == whole}
        for name, selected in without.items()
    ]


def _choice(source: Source, stage: Stage, matrices: Sequence[ScoreMatrix]) -> float | str:
    """The value of a stage that objective and rule of a run take on the mean of some models."""
    return stage.values[_row(source, stage.configs, matrices)]


def _row(source: Source, configs: Sequence[Config], matrices: Sequence[ScoreMatrix]) -> int:
    parts = [matrix.select([matrix.row(config) for config in configs]) for matrix in matrices]
    means = _meaned([values(source.objective, part) for part in parts])

    def replicates() -> Replicates:
        made = [bootstrap(source.objective, part) for part in parts]
        return averaged([part for part in made if part])

    def separations() -> np.ndarray:
        return _meaned([separation(part) for part in parts])

    return select(source.rule, configs, means, replicates, separations).row


def _meaned(curves: Sequence[np.ndarray]) -> np.ndarray:
    """Mean ``[configs]`` over the models, rounded once, so that what ties in a study ties."""
    return np.array([math.fsum(column) / len(curves) for column in zip(*curves, strict=True)])


def _at(values: Sequence[str], rows: np.ndarray) -> list[str]:
    return [values[row] for row in rows]
