"""Scoring for the selection benchmark: every set, once, with all that depends on its choices."""

import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness import StopWatch
from pseudoval.data.files import read_json, write_json
from pseudoval.detectors import Detector
from pseudoval.errors import UserError
from pseudoval.generators import DEFAULT_GENERATOR
from pseudoval.metrics.score_matrix import Config
from pseudoval.models.open import open_detector
from pseudoval.models.train import train
from pseudoval.progress import time_left
from pseudoval.pseudo_set.manifest import load_manifest
from pseudoval.scoring.blocks import forget_blocks
from pseudoval.scoring.matrices import known_scores, score_missing
from pseudoval.statistics.rules import BEST, RULES
from selection_figures import selected, together
from selection_sets import (
    Items,
    NotMeasured,
    Source,
    anomalies,
    default_set,
    held_out,
    real_images,
)
from selection_summary import load
from staged_knn import staged_knn

SEED = 0
"""Of the LafitE model, its noise and its pseudo sets."""
JOB, SETS = "job.json", "sets.json"


@dataclass(frozen=True, kw_only=True)
class Job:
    """What one run measures.

    Attributes:
        source: images and sets.
        model: a trained LafitE MODEL on the same split; None trains one in the work folder.
        detectors: of ``knn`` and ``lafite`` those to score now; the others may follow later.
        knn_seeds: how many seeds of core set and pseudo set nearest neighbours are judged with.
    """

    source: Source
    model: Path | None
    weights: Path | None
    preset: str
    settings: dict[str, str] = field(default_factory=dict)
    epochs: int | None
    generators: list[str]
    detectors: list[str]
    knn_seeds: int


class Scorer:
    """Scores images once, keeps the matrices, and says how long the rest will take."""

    def __init__(self, work: Path, watch: StopWatch) -> None:
        self.work, self.watch = work, watch
        self.left: dict[str, float] = {}
        self._spent: dict[str, list[float]] = {}

    def __call__(
        self, detector: Detector, name: str, items: Items, part: str, configs: Sequence[Config]
    ) -> None:
        """Score some images of every category; ``part`` names the configurations."""
        for category, images in items.items():
            where = f"{detector.name}-{detector.seed}/{name}/{category}-{part}"
            path = self.work / "scores" / f"{where}.npz"
            started = time.monotonic()
            with self.watch.timing(f"{detector.name}/{part[0]}"):
                known = known_scores(path, images, detector.model_sha256, detector.seed)
                matrix = score_missing(
                    detector, images, configs, known, name=where,
                    store=self.work / "blocks", progress=self.watch,
                )  # fmt: skip
            matrix.save(path)
            forget_blocks(self.work / "blocks" / where)
            self._say(detector.name, len(images) * len(configs), started, known is not None)

    def _say(self, kind: str, units: int, started: float, known: bool) -> None:
        self.left[kind] = max(0.0, self.left.get(kind, 0.0) - units)
        if known:
            return
        spent = self._spent.setdefault(kind, [0.0, 0.0])
        spent[0] += time.monotonic() - started
        spent[1] += units
        seconds = [self.left[name] * time_ / done for name, (time_, done) in self._spent.items()]
        unknown = [name for name in self.left if name not in self._spent and self.left[name]]
        more = f" and {', '.join(unknown)}" if unknown else ""
        print(f"  of all: {time_left(sum(seconds))}{more}", file=sys.stderr)


def measure(job: Job, watch: StopWatch) -> None:
    """Score everything that is not scored yet.

    Raises:
        OutOfTime: the time is up; what is done is kept.
    """
    work = job.source.work
    normals = held_out(job.source)
    real = real_images(job.source, list(normals))
    split = load_manifest(default_set(job.source))["split_sha256"]
    folder = job.model or work / "model"
    if job.model is None:
        with watch.timing("lafite/train"):
            train(
                job.source.data, default_set(job.source), folder, preset=job.preset,
                weights=job.weights, epochs=job.epochs, settings=job.settings, device="cpu",
                seed=SEED, resume=True, progress=watch,
            )  # fmt: skip
    lafite = open_detector(folder, seed=SEED)
    if lafite.split_sha256 != split:
        raise UserError(
            f"The model in {folder} was trained on another split than that of the pseudo sets of "
            f"{job.source.data}; leave --model out to train one."
        )
    facts: dict[str, Any] = {
        "model_sha256": lafite.model_sha256,
        "split_sha256": split,
        "images": {
            category: [len(normals[category]), *(sum(i.label == x for i in items) for x in (0, 1))]
            for category, items in real.items()
        },
    }
    known = _same_job(work, facts)
    facts["knn_seeds"] = job.knn_seeds
    facts["parameters"] = {**known.get("parameters", {}), "lafite": _parameters(lafite)}
    write_json(work / JOB, facts)
    scorer = Scorer(work, watch)
    scorer.left = expected(job, normals, real, {p.name: len(p.grid) for p in lafite.parameters})
    # Nearest neighbours first: they say most for the least time.
    seeds = range(job.knn_seeds if "knn" in job.detectors else 0)
    for seed in seeds:
        with watch.timing("knn/core sets"):
            knn = staged_knn(folder, work / "banks", seed=seed)
        facts["parameters"]["knn"] = _parameters(knn)
        write_json(work / JOB, facts)
        configs = knn_configs(knn)
        scorer(knn, "normals", normals, "all", configs)
        scorer(knn, "test", real, "all", configs)
        for name, sets in made_sets(job, seed, normals):
            scorer(knn, name, sets[0], "all", configs)
        del knn
    if "lafite" in job.detectors:
        score_lafite(job, scorer, lafite, normals, real)
    for seed in seeds:
        knn = staged_knn(folder, work / "banks", seed=seed)
        for index, items in enumerate(anomalies(job.source, DEFAULT_GENERATOR, seed, normals)):
            if index:
                scorer(knn, f"{DEFAULT_GENERATOR}+{index}", items, "all", knn_configs(knn))


def score_lafite(job: Job, scorer: Scorer, lafite: Detector, normals: Items, real: Items) -> None:
    """Every t without editing, then every K at the t that each set and rule took.

    The t of ``best`` comes first for all sets: it makes a whole comparison by itself.
    """
    grids = {p.name: list(p.grid) for p in lafite.parameters}
    at_t = [{"t": t, "k": 0} for t in grids["t"]]
    scorer(lafite, "normals", normals, "t", at_t)
    scorer(lafite, "test", real, "t", at_t)
    for name, sets in made_sets(job, SEED, normals):
        scorer(lafite, name, sets[0], "t", at_t)
        _edited(scorer, lafite, name, sets[0], normals, real, BEST, grids["k"])
    for rule in RULES:
        for name, sets in made_sets(job, SEED, normals):
            _edited(scorer, lafite, name, sets[0], normals, real, rule, grids["k"])


def _edited(
    scorer: Scorer, lafite: Detector, name: str, made: Items, normals: Items, real: Items,
    rule: str, depths: Sequence[int],
) -> None:  # fmt: skip
    """Every K at the t that a rule takes on a set, category by category."""
    for category in normals:
        parts = [load(scorer.work, "lafite", SEED, n, category, "t") for n in ("normals", name)]
        if parts[0] is None or parts[1] is None:
            raise RuntimeError(f"{name} of {category} has no scores over t")
        whole = together(parts[0], [parts[1]])
        t = whole.configs[selected(whole, rule)]["t"]
        configs = [{"t": t, "k": k} for k in depths]
        for group, items in (("normals", normals), ("test", real), (name, made)):
            scorer(lafite, group, {category: items[category]}, f"k-{t}", configs)


def made_sets(job: Job, seed: int, normals: Items) -> Iterator[tuple[str, list[Items]]]:
    """The sets that can be made here; the record in the work folder says why others cannot."""
    path = job.source.work / SETS
    for name in job.generators:
        known = read_json(path, "The record of sets") if path.exists() else {}
        try:
            sets = anomalies(job.source, name, seed, normals)
        except NotMeasured as reason:
            write_json(path, {**known, name: f"not measured: {reason}"})
            continue
        write_json(path, {**known, name: "measured"})
        yield name, sets


def knn_configs(knn: Detector) -> list[dict[str, int]]:
    """Every K on all stages, and every other subset of the stages at the default K."""
    by_name = {parameter.name: parameter for parameter in knn.parameters}
    k, stages = by_name["k"], by_name["stages"]
    others = [value for value in stages.grid if value != stages.default]
    return [{"k": value, "stages": stages.default} for value in k.grid] + [
        {"k": k.default, "stages": value} for value in others
    ]


def expected(job: Job, normals: Items, real: Items, values: dict[str, int]) -> dict[str, float]:
    """About how many image-configurations there are to score, by detector."""
    held, tested = (sum(map(len, items.values())) for items in (normals, real))
    count = len(job.generators)
    knn = (held * (count + 1 + 3) + tested) * job.knn_seeds * (values["k"] + 9)
    over_t = (held * (count + 1) + tested) * values["t"]
    # Two rules take about 1.5 values of t a set, and four sets about as many different ones.
    over_k = (held * count * 1.5 + (held + tested) * min(count, 4)) * values["k"]
    return {
        name: value
        for name, value in {"knn": knn, "lafite": over_t + over_k}.items()
        if name in job.detectors
    }


def _parameters(detector: Detector) -> dict[str, Any]:
    own = ("k", "stages", "t")  # the core set stays the model's
    return {
        p.name: {"grid": list(p.grid), "default": p.default}
        for p in detector.parameters
        if p.name in own
    }


def _same_job(work: Path, facts: dict[str, Any]) -> dict[str, Any]:
    """The record of a work folder, which must not be of another model, split or images."""
    if not (work / JOB).exists():
        return {}
    known: dict[str, Any] = read_json(work / JOB, "The record of the job")
    odd = [name for name, value in facts.items() if known.get(name) != value]
    if odd:
        raise UserError(f"{work} holds a job of other {' and '.join(odd)}; choose another --work.")
    return known
