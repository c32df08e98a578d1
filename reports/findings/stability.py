"""Does the choice survive leaving out a category, or a generator of the pseudo anomalies?"""

import math
from collections.abc import Mapping, Sequence
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
from reports.findings.source import Source


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
            lefts = {name: _without(source, what, np.array(of_images) != name) for name in names}
            matrices = {name: [left] for name, left in lefts.items() if left is not None}
            found += _left_out(source, what, [source.pseudo], matrices)
    return found


def without_each_seed(sources: Sequence[Source]) -> list[LeftOut]:
    """The choice on the mean of all seeds but one, as ``stability`` gives it for other parts."""
    names = {"seeds": "seed", "pseudo sets": "pseudo set"}
    what = names.get(sources[0].member_of or "", "scoring")
    without = {
        source.name: [one.pseudo for one in sources if one is not source] for source in sources
    }
    return _left_out(sources[0], what, [source.pseudo for source in sources], without)


def image_generators(matrix: ScoreMatrix) -> list[str]:
    """Generator of each pseudo anomaly, the folder that it lies in; "" for normal images."""
    return [
        PurePosixPath(image).parent.name if label == 1 else ""
        for image, label in zip(matrix.images, matrix.labels, strict=True)
    ]


def _left_out(
    source: Source,
    what: str,
    whole: Sequence[ScoreMatrix],
    without: Mapping[str, Sequence[ScoreMatrix]],
) -> list[LeftOut]:
    """The choice on the matrices without each part, against that on the whole."""
    choices = {name: _choices(source, matrices) for name, matrices in without.items()}
    of_whole = _choices(source, whole) if choices else {}
    return [
        {"left_out": what, "name": name, "selected": selected, "same": selected == of_whole}
        for name, selected in choices.items()
    ]


def _without(source: Source, what: str, kept: np.ndarray) -> ScoreMatrix | None:
    """None if no category keeps both classes, or a part has no pixel values of its own."""
    matrix = source.pseudo
    names, images, groups = map(np.array, (matrix.categories, matrix.images, matrix.groups))
    columns = [
        place
        for place, category in enumerate(matrix.category_names)
        if len(set(matrix.labels[kept & (names == category)].tolist())) == 2
    ]
    by_image = what != "category"
    if not columns or (by_image and needs_pixels(source.objective)):
        return None
    rows = kept & np.isin(names, np.array(matrix.category_names)[columns])
    return replace(
        matrix,
        scores=matrix.scores[:, rows],
        images=images[rows].tolist(),
        categories=names[rows].tolist(),
        labels=matrix.labels[rows],
        groups=groups[rows].tolist(),
        pixel={} if by_image else {key: v[:, columns] for key, v in matrix.pixel.items()},
        pixel_reason=[matrix.pixel_reason[place] for place in columns if matrix.pixel_reason],
    )


def alone(source: Source) -> dict[str, float | str]:
    """The value that the rule of the run takes from its own pseudo AUROCs, by stage.

    It is the choice itself, but where that was made on the mean of several seeds.
    """
    return _choices(source, [source.pseudo])


def alone_params(source: Source) -> dict[str, float | str]:
    """The values of ``alone`` as one configuration, which need not have been scored."""
    own = alone(source)
    last = source.stages[-1]
    config = dict(last.configs[last.values.index(own[last.name])])
    for stage in source.stages[:-1]:
        config[stage.param] = own[stage.name]
    return ordered(config)


def _choices(source: Source, matrices: Sequence[ScoreMatrix]) -> dict[str, float | str]:
    """The value of each stage that objective and rule of a run take on the mean of some models."""
    return {
        stage.name: stage.values[best_of(source, stage.configs, matrices)]
        for stage in source.stages
    }


def best_of(source: Source, configs: Sequence[Config], matrices: Sequence[ScoreMatrix]) -> int:
    """Place of the one among some configurations that objective and rule of a run take.

    Args:
        matrices: of the models whose mean is looked at.
    """
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
