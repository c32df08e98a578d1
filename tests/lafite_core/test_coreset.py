import math

import pytest
import torch
from torch import Tensor

from lafite_core import coreset
from lafite_core.coreset import first_equal, greedy_coreset, sharded_coreset
from lafite_core.errors import LafiteError


def textbook(points: Tensor, keep: int, first: int) -> list[int]:
    """The plain loop, in float64."""
    points = points.double()
    picks = [first]
    distance = (points - points[first]).norm(dim=1)
    while len(picks) < keep:
        picks.append(int(distance.argmax()))
        distance = torch.minimum(distance, (points - points[picks[-1]]).norm(dim=1))
    return picks


def coreset_radius(points: Tensor, centres: Tensor) -> float:
    """Largest distance of a point to its nearest centre (indices, or vectors), in float64."""
    there = points[centres] if centres.ndim == 1 else centres
    return float(torch.cdist(points.double(), there.double()).amin(1).max())


@pytest.mark.parametrize("block", [1, 7, 64, 1024])
@pytest.mark.parametrize("keep", [1, 2, 40, 300])
def test_same_picks_as_the_textbook_loop(block: int, keep: int) -> None:
    points = torch.randn(300, 12, generator=torch.Generator().manual_seed(1))
    picks = greedy_coreset(points, keep, seed=3, block=block).tolist()
    assert picks == textbook(points, keep, picks[0])


def test_clustered_points_get_one_centre_each() -> None:
    generator = torch.Generator().manual_seed(0)
    centres = 100 * torch.randn(5, 3, generator=generator)
    points = (centres[:, None] + 0.01 * torch.randn(5, 20, 3, generator=generator)).reshape(-1, 3)
    picks = greedy_coreset(points, 5, seed=0)
    assert sorted((picks // 20).tolist()) == [0, 1, 2, 3, 4]
    assert coreset_radius(points, picks) < 0.2


def test_radius_equals_the_textbook_radius() -> None:
    points = torch.rand(2000, 30, generator=torch.Generator().manual_seed(5))
    picks = greedy_coreset(points, 200, seed=0, block=128)
    reference = torch.tensor(textbook(points, 200, int(picks[0])))
    assert coreset_radius(points, picks) == pytest.approx(coreset_radius(points, reference), 1e-6)


def test_identical_points_need_one_centre() -> None:
    points = torch.ones(50, 4)
    points[25:] = 2
    assert len(greedy_coreset(points, 20, seed=0)) == 2


def test_progress_counts_every_pick() -> None:
    points = torch.randn(200, 4, generator=torch.Generator().manual_seed(2))
    counts: list[int] = []
    picks = greedy_coreset(points, 50, seed=0, block=16, advance=counts.append)
    assert sum(counts) == len(picks)


def test_seed_draws_the_first_centre_only() -> None:
    points = torch.randn(100, 4, generator=torch.Generator().manual_seed(2))
    firsts = {int(greedy_coreset(points, 1, seed=seed)[0]) for seed in range(10)}
    assert len(firsts) > 1


@pytest.mark.parametrize("keep", [0, 11])
def test_impossible_size_is_refused(keep: int) -> None:
    with pytest.raises(LafiteError, match="out of 10"):
        greedy_coreset(torch.randn(10, 2), keep, seed=0)


def random(count: int, channels: int = 12, seed: int = 1) -> Tensor:
    return torch.randn(count, channels, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("keep", [60, 61, 400])
def test_repeated_points_are_picked_once(keep: int) -> None:
    """Rounding must not make a repeated point look like a new one."""
    points = (100 + random(60)).repeat(7, 1)[torch.randperm(420)]
    for seed in range(3):
        picks = greedy_coreset(points, keep, seed=seed, block=32)
        assert len(picks) == 60
        assert len(points[picks].unique(dim=0)) == 60


def test_points_on_a_lattice_have_the_textbook_radius() -> None:
    """Nearly all distances are equal to others: picks may differ, the radius must not."""
    points = torch.cartesian_prod(*[torch.arange(5.0)] * 4)
    for keep in (2, 17, 81):
        picks = greedy_coreset(points, keep, seed=0, block=50)
        assert len(set(picks.tolist())) == keep
        reached = torch.cdist(points, points[picks[:-1]]).amin(1)
        assert float(reached[picks[-1]]) == float(reached.max()), "the last pick was not farthest"


def test_equal_rows_are_found_also_where_zero_has_a_sign() -> None:
    points = torch.tensor([[1.0, 2.0], [0.0, 1.0], [2.0, 1.0], [-0.0, 1.0], [1.0, 2.0]])
    assert first_equal(points).tolist() == [0, 1, 2, 1, 0]


@pytest.mark.parametrize("threads", [1, 3])
def test_picks_do_not_depend_on_the_number_of_cores(threads: int) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        picks = greedy_coreset(random(3000, 40), 500, seed=0)
    finally:
        torch.set_num_threads(before)
    assert picks.tolist() == textbook(random(3000, 40), 500, int(picks[0]))


def test_out_of_memory_makes_tiles_smaller_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    points = random(2000)
    expected = greedy_coreset(points, 300, seed=0)
    product, tried = coreset._partial, []

    def small(a: Tensor, *rest: Tensor) -> Tensor:
        tried.append(len(a))
        if len(a) > 100:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return product(a, *rest)

    monkeypatch.setattr(coreset, "_partial", small)
    assert greedy_coreset(points, 300, seed=0).tolist() == expected.tolist()
    assert tried[0] == coreset.TILE
    assert tried[-1] <= 100
    monkeypatch.setattr(coreset, "_partial", lambda *_: small(points[:101]))
    with pytest.raises(torch.OutOfMemoryError):
        greedy_coreset(points, 300, seed=0)


def shards(points: Tensor, count: int) -> list:
    numbers = torch.arange(len(points))
    return [lambda i=i: (points[i::count], numbers[i::count]) for i in range(count)]


def test_a_sharded_core_set_keeps_its_bound() -> None:
    """Radius at most that of the worst shard plus that of the second pass."""
    points = random(3000, 20)
    vectors, numbers = sharded_coreset(shards(points, 5), 3000, 150, seed=0)
    assert len(set(numbers.tolist())) == 150
    assert torch.equal(points[numbers], vectors)
    exact = coreset_radius(points, greedy_coreset(points, 150, seed=0))
    assert exact <= coreset_radius(points, vectors) < 1.2 * exact
    share = math.ceil(coreset.SPARE * 150 / 5)
    parts = [points[i::5] for i in range(5)]
    local = [greedy_coreset(part, share, seed=0) for part in parts]
    union = torch.cat([part[picks] for part, picks in zip(parts, local, strict=True)])
    worst = max(coreset_radius(part, picks) for part, picks in zip(parts, local, strict=True))
    assert coreset_radius(points, vectors) <= worst + coreset_radius(union, vectors) + 1e-6
    again = sharded_coreset(shards(points, 5), 3000, 150, seed=0)[1]
    assert torch.equal(again, numbers)


def test_a_sharded_core_set_holds_one_shard_at_a_time() -> None:
    points, asked, counts = random(1000), [], []

    def shard(i: int) -> tuple[Tensor, Tensor]:
        asked.append(i)
        return points[i::4], torch.arange(i, 1000, 4)

    parts = [lambda i=i: shard(i) for i in range(4)]
    sharded_coreset(parts, 1000, 100, seed=0, advance=counts.append)
    assert asked == [0, 1, 2, 3]
    assert sum(counts) == (1 + coreset.SPARE) * 100


@pytest.mark.parametrize("keep", [0, 31])
def test_an_impossible_size_of_a_sharded_core_set_is_refused(keep: int) -> None:
    with pytest.raises(LafiteError, match="out of 30"):
        sharded_coreset(shards(random(30), 3), 30, keep, seed=0)
