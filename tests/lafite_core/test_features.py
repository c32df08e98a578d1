import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from lafite_core.backbones import make_backbone
from lafite_core.config import FeatureConfig
from lafite_core.errors import LafiteError
from lafite_core.feature_cache import FeatureSource, feature_settings
from lafite_core.features import FeatureExtractor, Standardiser, aggregate, patches, preprocess
from lafite_core.filterbank import FilterBank, gaussian_kernel, oriented_filters, smooth
from lafite_core.parallel import single_threaded


def test_preprocess_keeps_an_image_of_the_right_size(rng: np.random.Generator) -> None:
    image = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
    out = preprocess(image, 32)
    assert torch.equal((out * 255).round().byte(), torch.tensor(image).permute(2, 0, 1))


def test_preprocess_averages_when_it_shrinks() -> None:
    """Without antialiasing a fine checkerboard would come out as noise or as one colour."""
    image = np.zeros((128, 128, 3), dtype=np.uint8)
    image[::2, ::2] = image[1::2, 1::2] = 255
    assert torch.allclose(preprocess(image, 32), torch.tensor(0.5), atol=0.02)


@pytest.mark.parametrize("bad", [np.zeros((8, 8), np.uint8), np.zeros((8, 8, 3), np.float32)])
def test_preprocess_refuses_other_arrays(bad: np.ndarray) -> None:
    with pytest.raises(LafiteError, match="uint8 RGB"):
        preprocess(bad, 32)


def test_aggregate_counts_every_activation_when_a_stage_shrinks() -> None:
    line = torch.zeros(1, 1, 8, 8)
    line[..., 1] = 8.0  # plain bilinear reads columns 1 and 2 of cell 0 alone
    out = aggregate([line], 2, "antialiased")
    # A triangle of twice the cell's width about its centre, at 1.5: 1 - |x - 1.5| / 4.
    weights = torch.tensor([1 - abs(x - 1.5) / 4 for x in range(6)])
    assert torch.allclose(out[0, 0, :, 0], 8 * weights[1] / weights.sum())
    assert float(aggregate([line], 2, "bilinear")[0, 0, 0, 0]) == 4.0
    flat = torch.full((1, 1, 9, 7), 0.3)
    assert torch.allclose(aggregate([flat], 4, "antialiased"), torch.tensor(0.3))


def test_aggregate_enlarges_without_a_staircase() -> None:
    ramp = torch.arange(4.0)[None, None, None].expand(1, 1, 4, 4)
    for kind in ("antialiased", "bilinear"):
        out = aggregate([ramp], 8, kind)[0, 0, 0]  # type: ignore[arg-type]
        assert torch.allclose(out[1:-1].diff(), torch.tensor(0.5))


def test_a_stage_of_the_size_of_the_grid_stays_as_it_is() -> None:
    same = torch.randn(1, 2, 5, 5, generator=torch.Generator().manual_seed(0))
    assert torch.equal(aggregate([same], 5, "antialiased"), same)


def test_standardised_features_have_zero_mean_and_unit_variance() -> None:
    features = 3 + 5 * torch.randn(6, 4, 5, 5, generator=torch.Generator().manual_seed(0))
    features[:, 3] = 2.0  # a constant channel stays finite
    out = Standardiser.fit(features)(features)
    flat = patches(out)
    assert torch.allclose(flat.mean(0), torch.zeros(4), atol=1e-4)
    assert torch.allclose(flat[:, :3].std(0, correction=0), torch.ones(3), atol=1e-4)


def test_global_scale_keeps_the_channels_relative_sizes() -> None:
    generator = torch.Generator().manual_seed(0)
    features = (
        torch.randn(3, 2, 4, 4, generator=generator) * torch.tensor([1.0, 5.0])[:, None, None]
    )
    out = Standardiser.fit(features, "global")(features)
    assert float(out.mean()) == pytest.approx(0, abs=1e-5)
    assert float(out.std(correction=0)) == pytest.approx(1, abs=1e-5)
    ratios = [v[:, 1].std() / v[:, 0].std() for v in (features, out)]
    assert torch.isclose(*ratios, rtol=1e-4)


def test_features_may_stay_as_they_are() -> None:
    features = torch.randn(3, 2, 4, 4, generator=torch.Generator().manual_seed(0)) + 5
    assert torch.equal(Standardiser.fit(features, "none")(features), features)


def test_patches_are_row_major() -> None:
    features = torch.arange(12.0).reshape(1, 2, 2, 3)
    assert patches(features)[4].tolist() == [4.0, 10.0]


def test_filters_answer_to_their_own_direction() -> None:
    """A vertical bright line excites the vertical bright-line filter most, a flat image none."""
    filters = oriented_filters(1.0)
    assert filters.shape == (8, 1, 7, 7)
    assert torch.allclose(filters.sum((1, 2, 3)), torch.zeros(8), atol=1e-6)
    assert torch.allclose(filters.abs().sum((1, 2, 3)), torch.ones(8), atol=1e-6)
    image = torch.zeros(1, 3, 32, 32)
    image[..., 16] = 1.0
    bank = FilterBank([1])
    line = bank.responses(image)[0, :, 16, 16]
    assert int(line[7:11].argmax()) == 0
    assert float(line[11:].max()) < float(line[7]) / 4, "it is no dark line"
    flat = bank.responses(torch.full((1, 3, 16, 16), 0.3))
    assert float(flat.abs().max()) < 1e-6


def test_energies_are_logarithmic_with_a_floor() -> None:
    """Twice the contrast adds log 4 to an energy; a flat image has that of one grey level."""
    image = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    one, two = (FilterBank([1])(scale * image)[0] for scale in (0.5, 1.0))
    assert torch.allclose(two - one, torch.tensor(4.0).log(), atol=0.1)
    flat = FilterBank([2])(torch.full((1, 3, 32, 32), 0.4))[0]
    assert torch.allclose(flat, 2 * torch.tensor(1 / 255).log(), atol=1e-3)


def test_the_last_stage_has_the_colours() -> None:
    red, green = torch.zeros(2, 1, 3, 32, 32).unbind(0)
    red[:, 0], green[:, 1] = 0.6, 0.6
    a, b = (FilterBank([4])(image)[0][0, 15:, 2, 2] for image in (red, green))
    assert a.tolist() == pytest.approx([0.2, 0.3, 0.15])
    assert b.tolist() == pytest.approx([0.2, -0.3, 0.15])


def test_filter_bank_stages_share_a_stride() -> None:
    maps = FilterBank([1, 2, 3, 4])(torch.rand(1, 3, 50, 36))
    assert [tuple(m.shape[-2:]) for m in maps] == [(7, 5)] * 4
    assert [m.shape[1] for m in maps] == FilterBank([1, 2, 3, 4]).channels == [15, 15, 15, 18]


def test_smoothing_keeps_a_constant_and_the_sum_rule() -> None:
    assert float(gaussian_kernel(4.0).sum()) == pytest.approx(1.0)
    flat = torch.full((1, 2, 20, 20), 0.7)
    assert torch.allclose(smooth(flat, 4.0), flat, atol=1e-6)


def test_features_do_not_depend_on_company(rng: np.random.Generator) -> None:
    images = rng.integers(0, 256, (3, 40, 40, 3), dtype=np.uint8)
    config = FeatureConfig(backbone="filterbank", image_size=64, grid=8)
    extractor = FeatureExtractor(make_backbone(config), config)
    together = torch.stack(list(FeatureSource(extractor).stream(images)))
    assert together.shape == (3, 63, 8, 8)
    for image, features in zip(images[::-1], together.flip(0), strict=True):
        assert torch.equal(extractor.extract(image), features)


def test_sixteen_bits_are_nearly_the_same_and_have_features_of_their_own(
    rng: np.random.Generator,
) -> None:
    image = rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)
    config = FeatureConfig(backbone="filterbank", image_size=64, grid=8)
    half = dataclasses.replace(config, precision="bfloat16")
    full, rough = (
        FeatureExtractor(make_backbone(c), c).extract(image).double() for c in (config, half)
    )
    away = float((full - rough).abs().max() / full.abs().max())
    assert 1e-5 < away < 0.2
    settings = [feature_settings(c, make_backbone(c), "cpu") for c in (config, half)]
    assert settings[0] != settings[1]


@pytest.mark.parametrize("threads", [1, 3])
def test_features_do_not_depend_on_the_number_of_threads(
    rng: np.random.Generator, threads: int
) -> None:
    images = list(rng.integers(0, 256, (5, 90, 70, 3), dtype=np.uint8))
    config = FeatureConfig(backbone="filterbank", image_size=128, grid=8)
    extractor = FeatureExtractor(make_backbone(config), config)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        alone = [extractor.extract(image) for image in images]
        streamed = list(FeatureSource(extractor).stream(images))
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    with single_threaded():
        expected = [extractor.extract(image) for image in images]
    for one, two, three in zip(alone, streamed, expected, strict=True):
        assert torch.equal(one, three)
        assert torch.equal(two, three)


def test_unknown_backbone_and_stage() -> None:
    with pytest.raises(LafiteError, match="no backbone 'resnet19'"):
        make_backbone(FeatureConfig(backbone="resnet19"), Path("x"))
    with pytest.raises(LafiteError, match="stages 1 to 4"):
        make_backbone(FeatureConfig(backbone="filterbank", stages=(5,)))


def test_weights_of_another_architecture(tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    save_file({"conv_stem.weight": torch.zeros(2, 2)}, path)
    config = FeatureConfig(backbone="mobilenetv2_100")
    with pytest.raises(LafiteError, match="does not belong to mobilenetv2_100"):
        make_backbone(config, path)
    path.write_bytes(b"rubbish")
    with pytest.raises(LafiteError, match=r"other.safetensors cannot be read"):
        make_backbone(config, path)
    with pytest.raises(LafiteError, match="no weights file"):
        make_backbone(config, tmp_path / "absent.safetensors")


def test_cut_efficientnet_equals_the_whole_one(shared: Path, rng: np.random.Generator) -> None:
    """The cut network loads the given weights strictly and has the paper's 272 channels."""
    config = FeatureConfig()
    weights = shared / "weights" / "tf_efficientnet_b4.stages1-4.safetensors"
    backbone = make_backbone(config, weights)
    assert backbone.channels == [24, 32, 56, 160]
    extractor = FeatureExtractor(backbone, config)
    image = rng.integers(0, 256, (256, 256, 3), dtype=np.uint8)
    features = extractor.extract(image)
    assert features.shape == (272, 14, 14)
    assert torch.isfinite(features).all()
    assert "blocks.5.0.conv_pw.weight" not in backbone.state_dict()
