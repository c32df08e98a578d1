import pytest
import torch
from torch import Tensor

from lafite_core.coreset import coreset_radius, greedy_coreset
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
    assert sum(counts) == len(picks) - 1  # the first is drawn, not picked


def test_seed_draws_the_first_centre_only() -> None:
    points = torch.randn(100, 4, generator=torch.Generator().manual_seed(2))
    firsts = {int(greedy_coreset(points, 1, seed=seed)[0]) for seed in range(10)}
    assert len(firsts) > 1


@pytest.mark.parametrize("keep", [0, 11])
def test_impossible_size_is_refused(keep: int) -> None:
    with pytest.raises(LafiteError, match="out of 10"):
        greedy_coreset(torch.randn(10, 2), keep, seed=0)
