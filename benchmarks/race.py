"""What racing saves: image-configurations scored, and whether the choice is that of the full grid.

    python benchmarks/race.py --run RUN [--run RUN ...] [--seeds N] [--quick] [--out FILE.json]

Nothing is scored: a finished RUN whose study did not race holds every score that a race over its
grids could ask for, so races are replayed from it, over all categories and over each one alone,
with the images in several seeded orders. Without ``--run`` the demo is made first, in a folder that
is removed again (minutes). Where a race chooses otherwise than the full grid, the two choices are
compared on all images by the paired bootstrap. Figures are over all categories; those of single
categories, with a quarter of the images or fewer, are in the checks.
"""

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from harness import result, show
from pseudoval.data.files import write_json
from pseudoval.demo.commands import demo_commands, render_data
from pseudoval.errors import UserError
from pseudoval.metrics.runs import load_run
from pseudoval.metrics.score_matrix import Config, ScoreMatrix
from pseudoval.statistics.curves import select_best
from pseudoval.statistics.intervals import paired_interval
from pseudoval.statistics.objectives import bootstrap, needs_pixels, values
from studies.search.racing import ERROR, FEWEST, SHARES, group_keys, race, rounds_of

SEED = 0
SEEDS = 20
ALL = "all categories"


def main() -> None:
    """Replay the races, print a table, and write the result if asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, action="append", default=[], help="a finished RUN")
    parser.add_argument("--seeds", type=int, default=SEEDS, help="orders of the images")
    parser.add_argument("--quick", action="store_true", help="two orders only")
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    arguments = parser.parse_args()
    seeds = range(SEED, SEED + (2 if arguments.quick else arguments.seeds))
    if arguments.run:
        found = measure(arguments.run, seeds)
    else:
        with tempfile.TemporaryDirectory() as folder:
            found = measure([demo_run(Path(folder) / "demo")], seeds)
    show(found)
    if arguments.out is not None:
        write_json(arguments.out, result(found, device="cpu", seed=SEED))


def measure(runs: Sequence[Path], seeds: range) -> dict[str, Any]:
    """Figures and checks over all RUNs and orders."""
    rows = [row for path in runs for row in replay_run(path, seeds)]
    whole = [row for row in rows if row["scope"] == ALL]
    ours = float(np.mean([row["raced"] for row in whole]))
    peer = float(np.mean([row["full"] for row in whole]))
    others = [row for row in rows if row["other_choices"]]
    differences = [other for row in rows for other in row["other_choices"]]
    return {
        "figures": {
            "race_image_configurations": {
                "ours": ours,
                "peer": peer,
                "peer_name": "the full grid",
                "ratio": peer / ours,
                "unit": "image-configurations of a study",
            }
        },
        "checks": {
            "runs": len(runs),
            "orders": len(seeds),
            "at_least_2_times_fewer": peer / ours >= 2,
            "ratio_lowest": min(row["full"] / row["raced"] for row in whole),
            "same_choice": sum(not row["other_choices"] for row in whole) / len(whole),
            "same_choice_single_categories": (
                sum(not row["other_choices"] for row in rows if row["scope"] != ALL)
                / max(1, len(rows) - len(whole))
            ),
            "never_distinguishable_from_the_full_grid": not any(
                one["distinguishable"] for one in differences
            ),
            "ratio_by_scope": {
                scope: float(np.mean([r["full"] / r["raced"] for r in rows if r["scope"] == scope]))
                for scope in dict.fromkeys(row["scope"] for row in rows)
            },
            "shares": list(SHARES),
            "fewest_normals": FEWEST,
            "error": ERROR,
            "stages": [{**row, "other_choices": None} for row in whole if row["order"] == SEED],
            "other_choices": [
                {"scope": row["scope"], "order": row["order"], **one}
                for row in others
                for one in row["other_choices"]
            ],
        },
    }


def replay_run(path: Path, seeds: range) -> list[dict[str, Any]]:
    """One row per member, scope and order: the sums over the stages of the RUN's study.

    Raises:
        UserError: the RUN raced itself, or has an objective that cannot race.
    """
    rows = []
    for member in load_run(path).members.values():
        if any("race" in stage for stage in member.best["stages"]):
            raise UserError(f"{path} raced, and holds no full grid; give one tuned without --race.")
        objective = member.header.get("objective", "macro_image_auroc")
        if needs_pixels(objective):
            raise UserError(f"{path} maximised {objective}, which cannot race.")
        matrix = ScoreMatrix.load(member.folder / "pseudo_scores.npz")
        stages = [[matrix.row(c) for c in stage["configs"]] for stage in member.best["stages"]]
        scopes = {ALL: matrix, **{name: within(matrix, name) for name in matrix.category_names}}
        for scope, part in scopes.items():
            for seed in seeds:
                found = [replay(objective, part.select(rows_), seed) for rows_ in stages]
                rows.append(
                    {
                        "run": path.name,
                        "scope": scope,
                        "order": seed,
                        "images": len(part.images),
                        "raced": sum(one["raced"] for one in found),
                        "full": sum(one["full"] for one in found),
                        "rounds": [one["rounds"] for one in found],
                        "other_choices": [one["other"] for one in found if one["other"]],
                    }
                )
    return rows


def replay(objective: str, matrix: ScoreMatrix, seed: int) -> dict[str, Any]:
    """A race over the configurations of a full matrix."""
    frame = matrix.select([])

    def score(
        configs: Sequence[Config], places: list[list[int]], number: int
    ) -> Sequence[np.ndarray]:
        rows = [matrix.row(config) for config in configs]
        return [matrix.scores[np.ix_(rows, places[0])]]

    rounds = rounds_of([frame], group_keys(frame, matrix.images), seed=seed)
    found = race(objective, matrix.configs, [frame], rounds, score)
    whole = select_best(matrix.configs, values(objective, matrix))
    mine = select_best(matrix.configs, values(objective, found.matrices[0]))
    return {
        "raced": found.image_configurations,
        "full": matrix.scores.size,
        "rounds": found.rounds,
        "other": None if mine == whole else compared(objective, matrix, whole, mine),
    }


def compared(objective: str, matrix: ScoreMatrix, whole: int, mine: int) -> dict[str, Any]:
    """The full grid's choice against the race's, on all images."""
    replicates = bootstrap(objective, matrix)
    assert replicates is not None
    low, high = paired_interval(replicates, whole, mine)
    figures = values(objective, matrix)
    return {
        "full_grid": matrix.configs[whole],
        "race": matrix.configs[mine],
        "difference": float(figures[whole] - figures[mine]),
        "interval": [low, high],
        "distinguishable": low > 0,
    }


def within(matrix: ScoreMatrix, category: str) -> ScoreMatrix:
    """The images of one category."""
    places = [place for place, name in enumerate(matrix.categories) if name == category]
    return ScoreMatrix(
        scores=matrix.scores[:, places],
        configs=matrix.configs,
        images=[matrix.images[place] for place in places],
        categories=[category] * len(places),
        labels=matrix.labels[places],
        groups=[matrix.groups[place] for place in places],
    )


def demo_run(folder: Path) -> Path:
    """The RUN of the demo, made in a folder."""
    from pseudoval.cli.commands import run

    folder.mkdir()
    render_data(folder, SEED)
    for arguments in demo_commands(folder, SEED)[:3]:  # build, train, tune
        if run(arguments) != 0:
            raise UserError(f"'pseudoval {' '.join(arguments)}' failed.")
    return folder / "run"


if __name__ == "__main__":
    main()
