import math
from itertools import pairwise
from typing import Any, get_args

import numpy as np
import pytest
import torch

from lafite_core.config import DiffusionConfig, Target
from lafite_core.diffusion import (
    add_noise,
    cosine_schedule,
    ddim_parts,
    denoise,
    extrapolated,
    image_noise,
    noise_draws,
    prediction_parts,
    training_target,
    trajectory,
)
from lafite_core.errors import LafiteError

CONFIG = DiffusionConfig()


def test_schedule_endpoints_and_monotony() -> None:
    alpha_bar = cosine_schedule(CONFIG)
    assert alpha_bar.shape == (1001,)
    assert alpha_bar[0] == 1
    assert 0 < alpha_bar[-1] < 1e-6
    assert (alpha_bar.diff() < 0).all()


def test_schedule_golden_values() -> None:
    """cos^2 of the published formula, by hand at the middle of the schedule."""
    alpha_bar = cosine_schedule(CONFIG)

    def f(s: float) -> float:
        return math.cos((s + 0.008) / 1.008 * math.pi / 2) ** 2

    for t in (1, 200, 500, 900):
        assert float(alpha_bar[t]) == pytest.approx(f(t / 1000) / f(0), rel=1e-9)


def test_one_step_never_adds_more_noise_than_allowed() -> None:
    alpha_bar = cosine_schedule(CONFIG)
    beta = 1 - alpha_bar[1:] / alpha_bar[:-1]
    assert float(beta.max()) == pytest.approx(0.999)


@pytest.mark.parametrize("t", [1, 3, 25, 500, 999])
def test_trajectory_starts_at_t_and_ends_at_0(t: int) -> None:
    steps = trajectory(t, 10)
    assert len(steps) == 11
    assert steps[0] == t
    assert steps[-1] == 0
    assert all(a >= b for a, b in pairwise(steps))
    gaps = [a - b for a, b in pairwise(steps)]
    assert max(gaps) - min(gaps) <= 1


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("target", get_args(Target))
@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("steps", [1, 4, 10])
def test_perfect_predictor_recovers_the_input(target: Target, eta: float, steps: int) -> None:
    """A predictor that knows the answer leads back to x_0, whatever t each sample has."""
    config = DiffusionConfig(sampling_steps=steps, eta=eta, target=target)
    x0 = draw(5, 5, 3, 3)
    noise = draw(5, noise_draws(config), 5, 3, 3, seed=1)
    alpha_bar = cosine_schedule(CONFIG)
    seen = []

    def perfect(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        seen.append(t.tolist())
        a = alpha_bar[t][:, None, None, None]
        return training_target(x0, (x - a.sqrt() * x0) / (1 - a).sqrt(), alpha_bar[t], target)

    t = [3, 10, 200, 500, 900]
    out = denoise(x0, noise, t, perfect, alpha_bar, config)
    assert torch.allclose(out, x0, atol=1e-9)
    assert seen[0] == t, "the first call is at the noise level that the input has"
    assert len(seen) == steps


@pytest.mark.parametrize("options", [{"eta": 0.5}, {"evaluations": 2}], ids=["eta", "evaluations"])
def test_maps_in_any_company_are_denoised_to_the_same_bits(options: dict[str, Any]) -> None:
    config = DiffusionConfig(sampling_steps=3, **options)
    x0, noise = draw(4, 7, 5, 3).float(), draw(4, noise_draws(config), 7, 5, 3, seed=1).float()
    t, alpha_bar = [1, 30, 400, 900], cosine_schedule(CONFIG)

    def network(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return x.tanh() * (t[:, None, None, None] / 1000)

    def run(places: list[int]) -> torch.Tensor:
        maps = [x0[i] for i in places], [noise[i] for i in places], [t[i] for i in places]
        return denoise(*maps, network, alpha_bar, config)

    base = run([0, 1, 2, 3])
    assert torch.equal(run([3, 1, 0, 2]), base[[3, 1, 0, 2]])
    assert all(torch.equal(run([i])[0], base[i]) for i in range(4))


@pytest.mark.parametrize("target", get_args(Target))
def test_targets_say_the_same_in_other_words(target: Target) -> None:
    x0, noise = draw(2, 3, 2, 2), draw(2, 3, 2, 2, seed=1)
    a = torch.tensor([0.9, 0.2], dtype=torch.float64)
    output = training_target(x0, noise, a, target)
    x = add_noise(x0, noise, a)
    clean, epsilon = (
        of_x[:, None, None, None] * x + of_output[:, None, None, None] * output
        for of_x, of_output in prediction_parts(a, target)
    )
    assert torch.allclose(clean, x0)
    assert torch.allclose(epsilon, noise)


def test_fresh_noise_replaces_predicted_noise() -> None:
    """Song et al. 2021, eq. 12 and 16 by hand: from 0.25 to 0.5, and the variance is kept."""
    now, then = torch.tensor(0.25), torch.tensor(0.5)
    sigma = math.sqrt(0.5 / 0.75 * (1 - 0.25 / 0.5))
    clean, kept, fresh = (float(part) for part in ddim_parts(now, then, 1.0))
    assert fresh == pytest.approx(sigma)
    assert fresh**2 + kept**2 == pytest.approx(0.5)
    assert clean == pytest.approx(math.sqrt(0.5))
    clean, kept, fresh = (float(part) for part in ddim_parts(now, then, 0.0))
    assert (clean, kept, fresh) == pytest.approx((math.sqrt(0.5), math.sqrt(0.5), 0))


def test_eta_draws_one_noise_a_step() -> None:
    assert noise_draws(DiffusionConfig(sampling_steps=7)) == 1
    assert noise_draws(DiffusionConfig(sampling_steps=7, eta=0.1)) == 8


def test_no_predicted_noise_scales_only() -> None:
    """Golden value: with epsilon = 0 a step to 0 divides by sqrt(alpha_bar)."""
    x = torch.full((1, 1, 1, 1), 3.0)
    config = DiffusionConfig(sampling_steps=1)
    alpha_bar = torch.tensor([1.0, 0.25], dtype=torch.float64)
    out = denoise(x, torch.zeros(1, 1, 1, 1, 1), [1], lambda x, t: 0 * x, alpha_bar, config)
    assert float(out) == pytest.approx(3.0)  # 3 was scaled by a half on the way there


def two_heaps() -> tuple[torch.Tensor, torch.Tensor]:
    """Four maps with features about -1 and 1, and the noise to put on them."""
    x0 = draw(4, 40, 3, 3).sign() + 0.5 * draw(4, 40, 3, 3, seed=2)
    return x0, draw(4, 1, 40, 3, 3, seed=1)


def exact_for_two_heaps(x: torch.Tensor, t: torch.Tensor, alpha_bar: torch.Tensor) -> torch.Tensor:
    """The expected noise in x where a feature is -1 or 1 by chance, plus 0.5 standard normal."""
    a = alpha_bar[t][:, None, None, None]
    variance = 0.25 * a + 1 - a
    centre = torch.tanh(a.sqrt() * x / variance)
    clean = centre + 0.25 * a.sqrt() / variance * (x - a.sqrt() * centre)
    return (x - a.sqrt() * clean) / (1 - a).sqrt()


@pytest.mark.parametrize("target", get_args(Target))
def test_fewer_evaluations_stay_close_to_all_steps_of_ddim(target: Target) -> None:
    """Closer than anything with half of the steps; the same network calls, and the same limit."""
    alpha_bar = cosine_schedule(CONFIG)
    x0, noise = two_heaps()
    t = [7, 100, 300, 500]
    calls: list[list[int]] = []

    def network(x: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
        calls.append(at.tolist())
        epsilon = exact_for_two_heaps(x, at, alpha_bar)
        a = alpha_bar[at][:, None, None, None]
        return training_target((x - (1 - a).sqrt() * epsilon) / a.sqrt(), epsilon, alpha_bar[at],
                               target)  # fmt: skip

    def run(**options: Any) -> torch.Tensor:
        calls.clear()
        config = DiffusionConfig(target=target, **options)
        return denoise(x0, noise, t, network, alpha_bar, config)

    every = run(sampling_steps=10)
    places = [calls[step] for step in (0, 2, 5, 7, 9)]
    fewer = run(sampling_steps=10, evaluations=5)
    assert calls == places

    def error(found: torch.Tensor) -> float:
        return float((found - every).square().mean().sqrt())

    assert error(fewer) < 0.5 * error(run(sampling_steps=5))
    assert torch.equal(run(sampling_steps=10, evaluations=10), every)


def test_a_parabola_is_extrapolated_without_error() -> None:
    weights = extrapolated(DiffusionConfig(sampling_steps=10, evaluations=5))
    evaluated = [0, 2, 5, 7, 9]
    assert sorted([*weights, *evaluated]) == list(range(10))
    for step, weight in weights.items():
        known = [one for one in evaluated if one < step][-3:]
        for degree in range(len(known)):
            found = sum(w * one**degree for w, one in zip(weight, known, strict=True))
            assert found == pytest.approx(step**degree)
    assert extrapolated(DiffusionConfig(sampling_steps=4, evaluations=1)) == {
        step: [1.0] for step in (1, 2, 3)
    }
    assert extrapolated(DiffusionConfig(sampling_steps=1, evaluations=1)) == {}


def test_add_noise_keeps_unit_variance() -> None:
    a = torch.tensor([0.36])
    out = add_noise(torch.ones(1, 1, 1, 1), torch.ones(1, 1, 1, 1), a)
    assert float(out) == pytest.approx(0.6 + 0.8)


@pytest.mark.parametrize("t", [0, 1001])
def test_step_outside_the_schedule_is_refused(t: int) -> None:
    x = torch.zeros(1, 1, 1, 1)
    with pytest.raises(LafiteError, match="outside 1 to 1000"):
        denoise(x, x[None], [t], lambda x, t: x, cosine_schedule(CONFIG), CONFIG)


def test_noise_belongs_to_the_image_and_the_seed(rng: np.random.Generator) -> None:
    image = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
    other = image.copy()
    other[0, 0, 0] ^= 1
    base = image_noise((4, 2, 2), image, 0)
    state = torch.get_rng_state()
    assert torch.equal(base, image_noise((4, 2, 2), image.copy(), 0))
    assert not torch.equal(base, image_noise((4, 2, 2), image, 1))
    assert not torch.equal(base, image_noise((4, 2, 2), other, 0))
    assert torch.equal(state, torch.get_rng_state()), "the global generator is left alone"
