"""The result of the selection benchmark, from the score matrices in its work folder alone."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pseudoval.data.files import read_json
from pseudoval.generators import DEFAULT_GENERATOR
from pseudoval.metrics.score_matrix import ScoreMatrix
from pseudoval.statistics.rules import RULES
from selection_figures import Case, aggregate, case, resolution, selected, thinned, together
from selection_sets import ANOMALIB, PER_NORMAL

TARGETS = {"regret_share": 0.1, "worst_regret": 0.02, "spearman_t": 0.8}
DRAWS = 5
"""Random shares of a set that are judged, to see what fewer images cost."""
QUICK_REPLICATES = 500


def load(
    work: Path, detector: str, seed: int, name: str, category: str, part: str
) -> ScoreMatrix | None:
    """A finished score matrix; None if there is none yet.

    Args:
        name: ``normals``, ``test`` or the set of anomalies.
        part: which configurations: ``all`` of ``knn``; ``t`` or ``k-T`` of LafitE.
    """
    path = work / "scores" / f"{detector}-{seed}" / name / f"{category}-{part}.npz"
    return ScoreMatrix.load(path) if path.exists() else None


def summary(work: Path, rule: str, seconds: dict[str, float]) -> dict[str, Any]:
    """Figures, and the whole table by generator in ``checks``, of what has been scored so far.

    Raises:
        UserError: nothing has been scored.
    """
    facts = read_json(work / "job.json", "The record of the job")
    sets: dict[str, str] = read_json(work / "sets.json", "The record of sets")
    cases: list[Case] = []
    spread: list[tuple[str, Case]] = []
    for generator, state in sets.items():
        if state != "measured":
            continue
        for pair in _pairs(work, facts, generator, (generator,)):
            about = {"generator": generator, **pair["about"]}
            cases.append(
                case(pair["pseudo"], pair["test"], pair["param"], pair["default"], pair["rules"],
                     **about)
            )  # fmt: skip
    if DEFAULT_GENERATOR in sets:
        spread = _spread(work, facts)
    by_generator = {
        generator: {
            one: aggregate([c for c in cases if c["generator"] == generator], one) for one in RULES
        }
        for generator, state in sets.items()
        if state == "measured"
    }
    images: dict[str, list[Case]] = {label: [] for label, _ in spread}
    for label, found in spread:
        images[label].append(found)
    return {
        "figures": _figures(by_generator, rule),
        "checks": {
            "default_generator": DEFAULT_GENERATOR,
            "rule": rule,
            **_beside(by_generator, rule),
            "not_measured": {name: text for name, text in sets.items() if text != "measured"},
            "images": facts["images"],
            "parameters": facts["parameters"],
            "generators": by_generator,
            "resolution": {label: resolution(found) for label, found in images.items()},
            "cases": cases,
            "seconds": seconds,
        },
    }


def _pairs(
    work: Path, facts: dict[str, Any], generator: str, names: Sequence[str]
) -> list[dict[str, Any]]:
    """Pseudo and test matrices of every choice on a generator's set that has been scored.

    Args:
        names: the sets of anomalies that are taken together; of the first one LafitE's t is.
    """
    found = []
    for category in facts["images"]:
        for seed in range(facts.get("knn_seeds", 0)):
            pair = _pair(work, "knn", seed, names, category, "all")
            if pair is None:
                continue
            wanted = facts["parameters"]["knn"]
            for param, other in (("k", "stages"), ("stages", "k")):
                fixed = wanted[other]["default"]
                rows = [r for r, c in enumerate(pair[0].configs) if c[other] == fixed]
                rows.sort(key=lambda row: float(pair[0].configs[row][param]))
                about = {"category": category, "detector": "knn", "seed": seed}
                found.append(_row(pair, rows, param, wanted[param]["default"], list(RULES), about))
        over_t = _pair(work, "lafite", 0, names, category, "t")
        if over_t is None:
            continue
        wanted = facts["parameters"]["lafite"]
        rows = list(range(len(over_t[0].configs)))
        about = {"category": category, "detector": "lafite", "seed": 0}
        found.append(_row(over_t, rows, "t", wanted["t"]["default"], list(RULES), about))
        chosen: dict[int, list[str]] = {}
        for rule in RULES:
            config = over_t[0].configs[selected(over_t[0], rule)]
            chosen.setdefault(int(config["t"]), []).append(rule)
        for t, rules in chosen.items():
            pair = _pair(work, "lafite", 0, names, category, f"k-{t}")
            if pair is not None:
                rows = list(range(len(pair[0].configs)))
                at = {**about, "t": t}
                found.append(_row(pair, rows, "k", wanted["k"]["default"], rules, at))
    return found


def _row(
    pair: tuple[ScoreMatrix, ScoreMatrix], rows: list[int], param: str, default: float,
    rules: list[str], about: dict[str, Any],
) -> dict[str, Any]:  # fmt: skip
    pseudo, test = (matrix.select(rows) for matrix in pair)
    return {"pseudo": pseudo, "test": test, "param": param, "default": default, "rules": rules,
            "about": about}  # fmt: skip


def _pair(
    work: Path, detector: str, seed: int, names: Sequence[str], category: str, part: str
) -> tuple[ScoreMatrix, ScoreMatrix] | None:
    wanted = ["normals", "test", *names]
    found = [load(work, detector, seed, name, category, part) for name in wanted]
    known = [matrix for matrix in found if matrix is not None]
    if len(known) < len(wanted):
        return None
    return together(known[0], known[2:]), known[1]


def _spread(work: Path, facts: dict[str, Any]) -> list[tuple[str, Case]]:
    """Cases of the default generator with fewer and with more images, by a label that says so."""
    found = []
    for pair in _pairs(work, facts, DEFAULT_GENERATOR, (DEFAULT_GENERATOR,)):
        detector = pair["about"]["detector"]
        for share, text in ((0.25, "a quarter"), (0.5, "half"), (1.0, "all")):
            for draw in range(DRAWS if share < 1 else 1):
                rng = np.random.default_rng([draw, round(100 * share)])
                pseudo = pair["pseudo"] if share == 1 else thinned(pair["pseudo"], share, rng)
                one = case(pseudo, pair["test"], pair["param"], pair["default"], pair["rules"],
                           replicates=QUICK_REPLICATES, **pair["about"])  # fmt: skip
                found.append((f"{detector}: {text} of the normals, one anomaly on each", one))
    for count in (2, PER_NORMAL):
        names = [DEFAULT_GENERATOR, *(f"{DEFAULT_GENERATOR}+{i}" for i in range(1, count))]
        for pair in _pairs(work, facts, DEFAULT_GENERATOR, names):
            one = case(pair["pseudo"], pair["test"], pair["param"], pair["default"], pair["rules"],
                       replicates=QUICK_REPLICATES, **pair["about"])  # fmt: skip
            label = f"{pair['about']['detector']}: all of the normals, {count} anomalies on each"
            found.append((label, one))
    return found


def _figures(by_generator: dict[str, Any], rule: str) -> dict[str, Any]:
    """The figures of the default generator, beside anomalib's Perlin or else the target."""
    ours = by_generator.get(DEFAULT_GENERATOR, {}).get(rule, {})
    theirs = by_generator.get(ANOMALIB, {}).get(rule, {})
    figures = {}
    for name, target in TARGETS.items():
        value, peer = ours.get(name), theirs.get(name)
        if value is None:
            continue
        other = f"anomalib's Perlin set, rule {rule}" if peer else "the target"
        peer = peer or target
        figures[name] = {
            "ours": value, "peer": peer, "peer_name": other, "ratio": value / peer, "unit": "1",
        }  # fmt: skip
    return figures


def _beside(by_generator: dict[str, Any], rule: str) -> dict[str, float | bool | None]:
    """Whether the default generator reaches its targets, and what it is compared with."""
    ours = by_generator.get(DEFAULT_GENERATOR, {}).get(rule, {})
    theirs = by_generator.get(ANOMALIB, {}).get(rule, {})
    reached = {name: ours.get(name) for name in TARGETS}
    met = {
        "regret_share_target_met": _at_most(reached["regret_share"], TARGETS["regret_share"]),
        "worst_regret_target_met": _at_most(reached["worst_regret"], TARGETS["worst_regret"]),
        "spearman_t_target_met": _at_most(TARGETS["spearman_t"], reached["spearman_t"]),
        "better_than_fixed_default": _less(ours.get("mean_regret"), ours.get("mean_default")),
        "better_than_anomalib_perlin": _less(ours.get("mean_regret"), theirs.get("mean_regret")),
    }
    return {
        **met,
        "mean_regret": ours.get("mean_regret"),
        "mean_regret_of_random_choice": ours.get("mean_random"),
        "mean_regret_of_fixed_default": ours.get("mean_default"),
        "mean_regret_of_anomalib_perlin": theirs.get("mean_regret"),
        "regret_share_of_fixed_default": ours.get("default_share"),
        "worst_regret_of_fixed_default": ours.get("worst_default"),
        "regret_share_of_anomalib_perlin": theirs.get("regret_share"),
    }


def _at_most(value: float | None, limit: float | None) -> bool | None:
    return None if value is None or limit is None else value <= limit


def _less(value: float | None, other: float | None) -> bool | None:
    return None if value is None or other is None else value < other
