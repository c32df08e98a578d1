"""Racing: score a share of the images first, and go on with what was not found to be worse."""

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pseudoval.metrics.score_matrix import PIXEL_METRICS, Config, ScoreMatrix, config_name
from pseudoval.statistics.bootstrap import averaged
from pseudoval.statistics.curves import select_best
from pseudoval.statistics.intervals import TIE, compare
from pseudoval.statistics.objectives import bootstrap, values

SHARES = (0.1, 0.2, 0.3, 0.4, 0.55, 0.7, 0.85, 1.0)
"""Of the normals of each category, with all anomalies made of them; a test after each but the last.
Many small rounds: what is clearly worse leaves early, and what is close leaves near the end."""

FEWEST = 8
"""Normals of a category that the first share has at least: of fewer a bootstrap says little."""

ERROR = 0.05
"""Probability, over all tests and configurations of a stage, of dropping one that is not worse."""

REPLICATES = 2000

Place = tuple[str, str]
"""A category and a group in it."""

ScoreImages = Callable[[Sequence[Config], list[list[int]], int], Sequence[np.ndarray]]
"""Scores ``[configs, images]`` of some configurations on the images at these places of every
member, in the round of that number."""


@dataclass(frozen=True, kw_only=True)
class Pruned:
    """A configuration that a race dropped.

    Attributes:
        row: of the configuration.
        images: how many had been scored, of one member.
        value: the objective on these.
        reason: one line for a person.
    """

    row: int
    images: int
    value: float
    reason: str


@dataclass(frozen=True, kw_only=True)
class Race:
    """What a race found.

    Attributes:
        matrices: of each member all configurations, NaN where an image was not scored; without
            pixel figures, which need the maps of all images at once.
        pruned: in the order of dropping.
        rounds: of each round ``images`` (new ones, of one member) and ``configurations``.
    """

    matrices: list[ScoreMatrix]
    pruned: list[Pruned]
    rounds: list[dict[str, int]]

    @property
    def image_configurations(self) -> int:
        """Images times configurations that were scored, of one member."""
        return sum(part["images"] * part["configurations"] for part in self.rounds)

    def entry(self, told: Sequence[float | str]) -> dict[str, Any]:
        """What the stage's entry in ``best.json`` says; ``told`` are the values of the rows."""
        return {
            "rounds": self.rounds,
            "image_configurations": self.image_configurations,
            "full_grid": self.matrices[0].scores.size,
            "pruned": [
                {
                    "value": told[one.row],
                    "images": one.images,
                    "objective_value": one.value,
                    "reason": one.reason,
                }
                for one in self.pruned
            ],
        }


def race(
    objective: str,
    configs: Sequence[Config],
    frames: Sequence[ScoreMatrix],
    rounds: Sequence[list[list[int]]],
    score: ScoreImages,
    *,
    seed: int = 0,
) -> Race:
    """Score configurations in rounds, and drop those that are worse than the leader.

    After each round but the last the objective is bootstrapped on the images so far, and a
    configuration is dropped when the interval of its paired difference to the leader lies above
    zero. The intervals hold for all configurations at once (``statistics.intervals.compare``), and
    ``ERROR`` is divided among the tests (Bonferroni).

    Worse means worse on *all* images of the set, since those are what the full grid would be
    judged by. The images so far are drawn from them without replacement, so that standard errors
    shrink by ``sqrt(1 - share)``, the finite population correction (Cochran, Sampling Techniques,
    1977, section 2.6).

    A configuration with a score that is not a number has failed, and is not scored further.

    Args:
        frames: the images of each member, as matrices without configurations.
        rounds: places of the images that each round adds, of each member; see ``rounds_of``.
        score: see ``ScoreImages``.
        seed: of the bootstrap.
    """
    tables = [np.full((len(configs), len(frame.images)), np.nan) for frame in frames]
    seen: list[list[int]] = [[] for _ in frames]
    alive = list(range(len(configs)))
    pruned: list[Pruned] = []
    told: list[dict[str, int]] = []
    for number, places in enumerate(rounds):
        told.append({"images": len(places[0]), "configurations": len(alive)})
        found = score([configs[row] for row in alive], places, number)
        for table, own, before, part in zip(tables, places, seen, found, strict=True):
            table[np.ix_(alive, own)] = part
            before += own
        failed = np.any([np.isnan(part).any(axis=1) for part in found], axis=0)
        alive = [row for row, lost in zip(alive, failed, strict=True) if not lost]
        if number + 1 < len(rounds) and len(alive) > 1:
            parts = [
                _images(frame, table, configs, alive, before)
                for frame, table, before in zip(frames, tables, seen, strict=True)
            ]
            share = min(_share(frame, part) for frame, part in zip(frames, parts, strict=True))
            dropped = _worse(objective, parts, share, len(rounds) - 1, len(frames[0].images), seed)
            pruned += [replace(one, row=alive[one.row]) for one in dropped]
            alive = [row for row in alive if row not in [one.row for one in pruned]]
        if not alive:
            break
    everything = list(range(len(configs)))
    return Race(
        matrices=[
            _images(frame, table, configs, everything, list(range(len(frame.images))))
            for frame, table in zip(frames, tables, strict=True)
        ],
        pruned=pruned,
        rounds=told,
    )


def rounds_of(
    frames: Sequence[ScoreMatrix],
    keys: Mapping[Place, str],
    *,
    shares: Sequence[float] = SHARES,
    seed: int = 0,
) -> list[list[list[int]]]:
    """Which images each round adds, of each member; rounds that would add none are left out.

    Whole groups go together, so that a pseudo anomaly is paired with its normal. Within a
    category, those with normal images only, with anomalous ones only and with both are ranked
    apart by a hash of (seed, key), and a round takes their first share: every share has the
    categories and labels of the whole, and neither names nor order matter.

    Args:
        frames: the images of each member.
        keys: content hash of every group, see ``group_keys``.
        seed: another one gives another order.
    """
    kinds: dict[tuple[str, tuple[int, ...]], list[Place]] = {}
    labels: dict[Place, set[int]] = {}
    for frame in frames:
        for place, label in zip(_places(frame), frame.labels.tolist(), strict=True):
            labels.setdefault(place, set()).add(label)
    for place, found in labels.items():
        kinds.setdefault((place[0], tuple(sorted(found))), []).append(place)
    first: dict[Place, int] = {}
    for members in kinds.values():
        ranked = sorted(members, key=lambda place: (_digest(seed, keys[place]), place))
        for rank, place in enumerate(ranked):
            first[place] = next(
                number
                for number, share in enumerate(shares)
                if rank < max(FEWEST, math.ceil(share * len(ranked) - 1e-9))
            )
    rounds = [
        [[row for row, at in enumerate(_places(f)) if first[at] == number] for f in frames]
        for number in range(len(shares))
    ]
    return [part for part in rounds if any(part)]


def group_keys(frame: ScoreMatrix, hashes: Sequence[str]) -> dict[Place, str]:
    """What tells a group by its content: the hashes of its normal images, else of all.

    The normal alone, because several pseudo sets share it and not the anomalies made of it.

    Args:
        hashes: of the content of each image.
    """
    found: dict[Place, tuple[list[str], list[str]]] = {}
    for place, label, digest in zip(_places(frame), frame.labels.tolist(), hashes, strict=True):
        found.setdefault(place, ([], []))[label].append(digest)
    return {place: ",".join(sorted(both[0] or both[1])) for place, both in found.items()}


def _worse(
    objective: str, parts: list[ScoreMatrix], share: float, tests: int, images: int, seed: int
) -> list[Pruned]:
    """The rows that one test finds worse than the leader on the whole set."""
    configs = parts[0].configs
    made = [bootstrap(objective, part, replicates=REPLICATES, seed=seed) for part in parts]
    replicates = averaged([one for one in made if one is not None])
    means = np.mean([values(objective, part) for part in parts], axis=0)
    leader = select_best(configs, means)
    found = compare(replicates, leader, 1 - 2 * ERROR / tests)  # one-sided
    reach = found.critical * found.errors * math.sqrt(1 - share)
    so_far = len(parts[0].images)
    return [
        Pruned(
            row=row,
            images=so_far,
            value=float(means[row]),
            reason=(
                f"{found.gaps[row]:.4f} (at least {found.gaps[row] - reach[row]:.4f}) below "
                f"{config_name(configs[leader])} on {so_far} of {images} images"
            ),
        )
        for row in range(len(configs))
        if found.gaps[row] - reach[row] > TIE
    ]


def _share(whole: ScoreMatrix, part: ScoreMatrix) -> float:
    """Share of the groups that a part has, in the category where it is smallest."""
    counts = [
        (len({at for at in _places(one) if at[0] == name}))
        for one in (part, whole)
        for name in whole.category_names
    ]
    half = len(whole.category_names)
    return min(few / many for few, many in zip(counts[:half], counts[half:], strict=True))


def _images(
    frame: ScoreMatrix,
    table: np.ndarray,
    configs: Sequence[Config],
    rows: Sequence[int],
    places: Sequence[int],
) -> ScoreMatrix:
    """Some configurations on some images."""
    names = sorted({frame.categories[place] for place in places})
    lacking = np.full((len(rows), len(names)), np.nan)
    return ScoreMatrix(
        scores=table[np.ix_(rows, places)],
        configs=[dict(configs[row]) for row in rows],
        images=[frame.images[place] for place in places],
        categories=[frame.categories[place] for place in places],
        labels=frame.labels[list(places)],
        groups=[frame.groups[place] for place in places],
        pixel=dict.fromkeys(PIXEL_METRICS, lacking),
        pixel_reason=["the study raced, and kept no maps"] * len(names),
        header=frame.header,
    )


def _places(frame: ScoreMatrix) -> list[Place]:
    return list(zip(frame.categories, frame.groups, strict=True))


def _digest(seed: int, key: str) -> str:
    return hashlib.sha256(f"{seed}:{key}".encode()).hexdigest()
