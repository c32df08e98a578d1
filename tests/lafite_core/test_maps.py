import pytest
import torch
import torch.nn.functional as F

from lafite_core.config import ScoreConfig
from lafite_core.filterbank import smooth
from lafite_core.maps import error_map, image_scores, render


def grids(count: int = 6, seed: int = 0) -> torch.Tensor:
    return torch.rand(count, 5, 7, generator=torch.Generator().manual_seed(seed))


def test_error_is_the_euclidean_distance() -> None:
    a, b = torch.zeros(1, 2, 1, 1), torch.tensor([3.0, 4.0]).reshape(1, 2, 1, 1)
    assert float(error_map(a, b)) == pytest.approx(5.0)


def test_rendering_equals_interpolation_and_convolution() -> None:
    plain = F.interpolate(grids()[:, None], (40, 40), mode="bilinear", align_corners=False)
    assert torch.allclose(render(grids(), 40, 0.0), plain[:, 0], atol=1e-6)
    assert torch.allclose(render(grids(), 40, 4.0), smooth(plain, 4.0)[:, 0], atol=1e-5)


def test_constant_errors_stay_constant() -> None:
    maps = render(torch.full((2, 4, 4), 1.5), 32, 4.0)
    assert maps.shape == (2, 32, 32)
    assert torch.allclose(maps, torch.tensor(1.5))


def test_upsampling_is_bilinear() -> None:
    maps = render(torch.tensor([[[0.0, 4.0]]]).expand(1, 2, 2), 4, 0.0)
    assert maps[0, 0].tolist() == [0.0, 1.0, 3.0, 4.0]


def test_smoothing_is_a_gaussian_of_the_stated_width() -> None:
    """The variance of a smoothed point is sigma squared, along each axis."""
    errors = torch.zeros(1, 65, 65)
    errors[0, 32, 32] = 1
    profile = render(errors, 65, 4.0)[0].sum(0)
    axis = torch.arange(65.0) - 32
    assert float((profile * axis**2).sum() / profile.sum()) == pytest.approx(16, rel=0.02)


def test_score_is_the_maximum_of_window_means() -> None:
    config = ScoreConfig(pool=6, sigma=2.0)
    pooled = F.avg_pool2d(render(grids(), 40, 2.0)[:, None], 6, stride=1).amax((1, 2, 3))
    assert torch.allclose(image_scores(grids(), 40, config).float(), pooled, atol=1e-6)
    point = torch.zeros(1, 4, 4)
    point[0, 1, 1] = 2.0
    assert float(image_scores(point, 4, ScoreConfig(pool=1, sigma=0))) == 2.0
    assert float(image_scores(point, 4, ScoreConfig(pool=2, sigma=0))) == 0.5


def test_top_mean_averages_the_highest_share() -> None:
    errors = torch.arange(100.0).reshape(1, 10, 10)
    config = ScoreConfig(pool=1, sigma=0, reduction="top_mean", top_share=0.05)
    assert float(image_scores(errors, 10, config)) == pytest.approx((95 + 96 + 97 + 98 + 99) / 5)
    one = ScoreConfig(pool=1, sigma=0, reduction="top_mean", top_share=0.001)
    assert float(image_scores(errors, 10, one)) == 99


def test_score_does_not_depend_on_company() -> None:
    config = ScoreConfig(pool=4, sigma=2.0)
    whole = image_scores(grids(), 20, config)
    assert torch.equal(whole.flip(0), image_scores(grids().flip(0), 20, config))
    assert torch.equal(whole[2:3], image_scores(grids()[2:3], 20, config))
