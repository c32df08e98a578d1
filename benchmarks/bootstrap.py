"""The bootstrap of AUROCs: its speed against a loop over scikit-learn, and its coverage.

    python benchmarks/bootstrap.py [--quick] [--out FILE.json]

Speed: 10,000 replicates of 100 configurations on 2,000 images, against scikit-learn's
``roc_auc_score`` on every replicate of every configuration. A million calls take most of an hour,
so a random part of them is timed, in between two halves of ours, and multiplied up; on those the
two must agree. Coverage: intervals at 95 % of sets drawn from distributions with a known AUROC.
"""

import argparse
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats
from sklearn.metrics import roc_auc_score

from harness import result, show
from pseudoval.data.files import write_json
from pseudoval.statistics.bootstrap import bootstrap_auroc
from pseudoval.statistics.intervals import auroc_intervals, compare
from pseudoval.statistics.samples import draw_groups

SEED = 0
KINDS = ("normal", "wide", "exponential", "paired")
AUROCS = (0.7, 0.8, 0.9, 0.95, 0.97)


def main() -> None:
    """Run both parts, print a table, and write the result if asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of the work, or less")
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    arguments = parser.parse_args()
    figure, speed = measure_speed(quick=arguments.quick)
    coverage = measure_coverage(quick=arguments.quick)
    leading = measure_leading_set(quick=arguments.quick)
    found = {"figures": {"bootstrap": figure}, "checks": {**speed, **coverage, **leading}}
    show(found)
    if arguments.out is not None:
        write_json(arguments.out, result(found, device="cpu", seed=SEED))


def measure_speed(*, quick: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    """Seconds of the whole bootstrap, ours and (from a part of the calls) scikit-learn's."""
    configs, replicates, calls = (20, 1000, 200) if quick else (100, 10_000, 2000)
    size = 1000  # images of a class
    rng = np.random.default_rng(SEED)
    labels = np.repeat([0, 1], size)
    common = rng.normal(size=2 * size)
    shifts = np.linspace(0.5, 2.5, configs)[:, None]
    scores = common + 0.3 * rng.normal(size=(configs, 2 * size)) + shifts * labels
    images = [str(number) for number in range(2 * size)]

    def ours() -> tuple[float, np.ndarray]:
        started = time.perf_counter()
        found = bootstrap_auroc(
            scores, ["c"] * 2 * size, labels, images, replicates=replicates, seed=SEED
        )
        return time.perf_counter() - started, found.values[0]

    first, values = ours()
    _, group = np.unique(images, return_inverse=True)
    counts = draw_groups(group, labels == 1, replicates, np.random.default_rng([SEED, 0, 0]))
    difference = 0.0
    started = time.perf_counter()
    for _ in range(calls):
        row, replicate = int(rng.integers(configs)), int(rng.integers(replicates))
        drawn = np.repeat(np.arange(2 * size), counts[group, replicate])
        theirs = roc_auc_score(labels[drawn], scores[row, drawn])
        difference = max(difference, abs(theirs - values[row, replicate]))
    peer = (time.perf_counter() - started) / calls * configs * replicates
    second, _ = ours()
    seconds = (first + second) / 2
    figure = {
        "ours": seconds,
        "peer": peer,
        "peer_name": "a loop over scikit-learn's roc_auc_score",
        "ratio": peer / seconds,
        "unit": "s",
    }
    checks = {
        "configurations": configs,
        "images": 2 * size,
        "replicates": replicates,
        "peer_calls_timed": calls,
        "peer_seconds_timed": peer * calls / (configs * replicates),
        "ours_seconds": [first, second],
        "largest_difference": difference,
    }
    return figure, checks


def measure_coverage(*, quick: bool) -> dict[str, Any]:
    """How often intervals hold the true AUROC, ours and the plain percentile interval's.

    ``coverage_lowest`` and ``coverage_highest`` are over AUROCs of 0.7 to 0.97; what lies closer
    to 1 is in ``near_one``.
    """
    trials, replicates = (200, 300) if quick else (4000, 1000)
    settings = [([auroc], kind, sizes) for kind in KINDS for auroc in AUROCS
                for sizes in ((50, 50), (50, 150), (150, 50), (200, 200))
                if kind != "paired" or sizes[1] % sizes[0] == 0]  # fmt: skip
    settings += [(mixture, kind, (50, 50)) for kind in KINDS[:3]
                 for mixture in ([0.97] * 4, [0.7, 0.8, 0.9, 0.97])]  # fmt: skip
    near_one = [([auroc], kind, (50, 50)) for kind in KINDS for auroc in (0.99, 0.997)]
    print(f"{'scores':<12} {'AUROC':<22} {'images':<8} {'ours':>7} {'percentile':>11} {'width':>7}")
    rows = [coverage(*setting, trials=trials, replicates=replicates) for setting in settings]
    close = [coverage(*setting, trials=trials, replicates=replicates) for setting in near_one]
    ours = [row["coverage"] for row in rows]
    return {
        "coverage_trials": trials,
        "coverage_replicates": replicates,
        "coverage_lowest": min(ours),
        "coverage_highest": max(ours),
        "percentile_coverage_lowest": min(row["percentile"] for row in rows),
        "coverage": rows,
        "near_one": close,
    }


def coverage(
    true: list[float], kind: str, sizes: tuple[int, int], *, trials: int, replicates: int
) -> dict[str, Any]:
    """Coverage of one setting: a category per true AUROC, ``sizes`` normal and anomalous images.

    All trials are resampled alike, which their independent scores do not mind.
    """
    rng = np.random.default_rng(
        [SEED, len(true), round(1e4 * sum(true)), *sizes, KINDS.index(kind)]
    )
    parts = [draw(auroc, kind, sizes, trials, rng) for auroc in true]
    categories = [f"c{place}" for place in range(len(true)) for _ in range(sum(sizes))]
    groups = [str(g) for _ in true for g in groups_of(kind, sizes)]
    found = bootstrap_auroc(
        np.concatenate(parts, axis=1),
        categories,
        np.tile(np.repeat([0, 1], sizes), len(true)),
        groups,
        replicates=replicates,
        seed=int(rng.integers(1 << 30)),
    )
    target = math.fsum(true) / len(true)
    intervals = auroc_intervals(found)
    plain = np.quantile(found.values.mean(axis=0), [0.025, 0.975], axis=1)
    row = {
        "scores": kind,
        "auroc": true,
        "images": list(sizes),
        "coverage": float(((intervals[:, 0] <= target) & (target <= intervals[:, 1])).mean()),
        "percentile": float(((plain[0] <= target) & (target <= plain[1])).mean()),
        "width": float(np.diff(intervals, axis=1).mean()),
    }
    name = ", ".join(f"{auroc:g}" for auroc in true)
    print(
        f"{kind:<12} {name:<22} {sizes[0]}+{sizes[1]:<5} {100 * row['coverage']:>6.1f}% "
        f"{100 * row['percentile']:>10.1f}% {row['width']:>7.3f}",
        flush=True,
    )
    return row


def draw(
    auroc: float, kind: str, sizes: tuple[int, int], trials: int, rng: np.random.Generator
) -> np.ndarray:
    """Scores ``[trials, normal + anomalous]`` of a distribution with this AUROC.

    ``normal``: of one variance; ``wide``: anomalies of 2.5 times the standard deviation;
    ``exponential``: both skewed; ``paired``: anomalies made of the normal images, sharing half of
    their variance.
    """
    normal, anomalous = ((trials, size) for size in sizes)
    quantile = float(stats.norm.ppf(auroc))
    if kind == "exponential":
        parts = rng.exponential(1, normal), rng.exponential(auroc / (1 - auroc), anomalous)
    elif kind == "wide":
        parts = rng.normal(size=normal), rng.normal(quantile * math.sqrt(7.25), 2.5, anomalous)
    elif kind == "paired":
        base = math.sqrt(0.5) * rng.normal(size=normal)
        repeated = np.tile(base, sizes[1] // sizes[0])
        parts = (
            base + math.sqrt(0.5) * rng.normal(size=normal),
            repeated + quantile * math.sqrt(2) + math.sqrt(0.5) * rng.normal(size=anomalous),
        )
    else:
        parts = rng.normal(size=normal), rng.normal(quantile * math.sqrt(2), 1, anomalous)
    return np.concatenate(parts, axis=1)


def groups_of(kind: str, sizes: tuple[int, int]) -> list[int]:
    """Group of each image: its normal image where anomalies are made of them."""
    if kind == "paired":
        return [number % sizes[0] for number in range(sum(sizes))]
    return list(range(sum(sizes)))


def measure_leading_set(*, quick: bool) -> dict[str, Any]:
    """How often the set not told apart from the leader holds the truly best configuration."""
    trials, replicates, size = (100, 300, 60) if quick else (2000, 1000, 60)
    rng = np.random.default_rng([SEED, 1])
    labels = np.repeat([0, 1], size)
    shifts = np.array([1.0, 1.2, 1.3, 1.3, 1.28, 1.1, 0.8, 0.5, 0.2])
    images = [str(number) for number in range(2 * size)]
    held, members = 0, 0
    for trial in range(trials):
        shared = rng.normal(size=2 * size)
        own = rng.normal(size=(len(shifts), 2 * size))
        scores = 0.8 * shared + 0.6 * own + shifts[:, None] * labels
        found = bootstrap_auroc(
            scores, ["c"] * 2 * size, labels, images, replicates=replicates, seed=trial
        )
        together = compare(found, int(found.estimates[0].argmax())).together
        held += bool(together[2])
        members += int(together.sum())
    print(f"leading set: holds the best in {100 * held / trials:.1f} %")
    return {"leading_set_holds_best": held / trials, "leading_set_size": members / trials}


if __name__ == "__main__":
    main()
