import pytest
import torch

from lafite_core.config import ScoreConfig
from lafite_core.maps import error_map, grid_scores, image_score, render


def test_error_is_the_euclidean_distance() -> None:
    a, b = torch.zeros(1, 2, 1, 1), torch.tensor([3.0, 4.0]).reshape(1, 2, 1, 1)
    assert float(error_map(a, b)) == pytest.approx(5.0)


def test_constant_errors_stay_constant() -> None:
    maps = render(torch.full((2, 4, 4), 1.5), 32, 4.0)
    assert maps.shape == (2, 32, 32)
    assert torch.allclose(maps, torch.tensor(1.5), atol=1e-5)


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
    maps = torch.zeros(1, 8, 8)
    maps[0, 2:4, 2:4] = 2.0
    assert float(image_score(maps, ScoreConfig(pool=2))) == 2.0
    assert float(image_score(maps, ScoreConfig(pool=4))) == 0.5


def test_score_does_not_depend_on_company() -> None:
    errors = torch.rand(6, 5, 5, generator=torch.Generator().manual_seed(0))
    config = ScoreConfig(pool=4, sigma=2.0)
    whole = grid_scores(errors, 20, config)
    assert torch.equal(whole.flip(0), grid_scores(errors.flip(0), 20, config))
    assert torch.equal(whole[2:3], grid_scores(errors[2:3], 20, config))
