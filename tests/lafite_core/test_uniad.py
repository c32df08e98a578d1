"""UniAD: the published network, what its tokens see, training to the bit, and scores of every K."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from pretended_gpu import pretended_gpu
from safetensors import safe_open
from tiny_model import pictures
from tiny_model import request as tiny_request
from torch import Tensor

from lafite_core import sweep
from lafite_core.config import (
    FeatureConfig,
    LafiteConfig,
    ScoreConfig,
    TrainConfig,
    UniadConfig,
)
from lafite_core.errors import LafiteError
from lafite_core.features import patches
from lafite_core.fit import fit
from lafite_core.learning import LEARNERS, Reconstruction
from lafite_core.model import LafiteModel
from lafite_core.parallel import single_threaded
from lafite_core.reconstruct import uniad_errors, uniad_normal_errors
from lafite_core.train import Trained, train_network
from lafite_core.train_features import FEATURES
from lafite_core.uniad import (
    Attention,
    DecoderLayer,
    EncoderLayer,
    Uniad,
    jittered,
    neighbour_mask,
)
from lafite_core.uniad_presets import uniad_preset

SMALL = UniadConfig(
    width=16, heads=2, feedforward=32, encoder_layers=2, decoder_layers=2, neighbourhood=3
)
CONFIG = LafiteConfig(
    features=FeatureConfig(backbone="filterbank", image_size=48, grid=6, normalise="none"),
    uniad=SMALL,
    train=TrainConfig(
        epochs=4, min_steps=0, batch_size=4, micro_batch=2, checkpoint_seconds=0, learning_rate=1e-3
    ),
    score=ScoreConfig(batch_size=2, pool=8, sigma=0.0),
)
KS = [0, 1, 5, 20]


def with_uniad(**options: object) -> LafiteConfig:
    return dataclasses.replace(CONFIG, uniad=dataclasses.replace(SMALL, **options))  # type: ignore


def features(count: int = 10) -> Tensor:
    return torch.randn(count, 5, 6, 6, generator=torch.Generator().manual_seed(0))


def trained(config: LafiteConfig = CONFIG, **options: object) -> Trained:
    return train_network(features(), config, network="uniad", seed=1, **options)  # type: ignore


def equal(one: Trained, two: Trained) -> bool:
    pairs = zip(one.network.parameters(), two.network.parameters(), strict=True)
    return one.losses == two.losses and all(torch.equal(a, b) for a, b in pairs)


def test_the_published_network_has_7_7_million_weights() -> None:
    """Counted by hand from its parts, for the features of EfficientNet-b4 on a grid of 14."""
    width, inside, tokens = 256, 1024, 14 * 14
    attention = 4 * (width * width + width)
    feedforward = width * inside + inside + inside * width + width
    norm = 2 * width
    encoder = attention + feedforward + 2 * norm
    decoder = 2 * attention + feedforward + 3 * norm + tokens * width
    ends = (272 * width + width) + (width * 272 + 272) + (14 + 14) * 128 + norm
    network = LEARNERS["uniad"].build(272, uniad_preset("paper"))
    found = sum(parameter.numel() for parameter in network.parameters())
    assert found == 4 * encoder + 4 * decoder + ends == 7_717_392


def seen_by(layer: object, grid: int, side: int) -> Tensor:
    """Norm of the gradient from every token that is looked at to every output, ``[T, T]``."""
    mask, position = neighbour_mask(grid, side), torch.randn(grid**2, 16)
    looked_at = torch.randn(1, grid**2, 16, requires_grad=True)
    if isinstance(layer, Attention):
        asking = torch.randn(1, grid**2, 16)
        out = layer(asking, looked_at, position, mask)
    else:
        assert isinstance(layer, DecoderLayer)
        out = layer(looked_at, looked_at, position, mask)
    sums = out[0] @ torch.randn(16)  # a plain sum is 0 after a layer normalisation
    rows = [torch.autograd.grad(one, looked_at, retain_graph=True)[0] for one in sums]
    return torch.cat(rows).norm(dim=2)


@pytest.mark.parametrize("side", [3, 7])
def test_a_token_does_not_see_itself_nor_its_neighbours(side: int) -> None:
    grid = 10
    for layer in (Attention(SMALL).eval(), Attention(SMALL).train()):
        gradient = seen_by(layer, grid, side)
        for token in range(grid**2):
            row, column = divmod(token, grid)
            for other in range(grid**2):
                away = max(abs(other // grid - row), abs(other % grid - column))
                if away <= side // 2:
                    assert gradient[token, other] == 0, (token, other)
        if not layer.training:  # dropout hides others at random
            hidden = (gradient == 0).sum(dim=1)
            assert hidden.max() == side**2 and hidden.min() == (side // 2 + 1) ** 2


def test_a_decoder_layer_hides_both_of_its_inputs() -> None:
    """Its second attention would pass on what the first one has seen of a neighbour; the query of
    a place is learned, so that the memory reaches the output by attention alone."""
    layer = DecoderLayer(100, SMALL).eval()
    torch.nn.init.zeros_(layer.of_before.out.weight)
    gradient = seen_by(layer, 10, 7)
    token = 4 * 10 + 4
    near = [10 * row + column for row in range(1, 8) for column in range(1, 8)]
    assert not gradient[token, near].any()
    assert gradient[token].count_nonzero() == 100 - 49


def test_without_a_neighbourhood_every_token_is_seen() -> None:
    assert neighbour_mask(4, 0).all()
    assert neighbour_mask(4, 1).sum() == 16 * 15
    with pytest.raises(LafiteError, match=r"uniad.neighbourhood is 7.*below features.grid.* is 7"):
        neighbour_mask(7, 7)


def test_position_enters_queries_and_keys_alone() -> None:
    """With one token to see, its value comes through whatever the positions are."""
    attention = Attention(SMALL).eval()
    asking, seen = torch.randn(1, 1, 16), torch.randn(1, 1, 16)
    mask = torch.ones(1, 1, dtype=torch.bool)
    found = [attention(asking, seen, torch.randn(1, 16), mask) for _ in range(2)]
    assert torch.allclose(*found)
    layer = EncoderLayer(SMALL).eval()
    tokens = torch.randn(1, 9, 16)
    outs = [layer(tokens, torch.randn(9, 16), neighbour_mask(3, 1)) for _ in range(2)]
    assert not torch.allclose(*outs)


def test_a_position_is_a_row_and_a_column() -> None:
    network = Uniad(5, 6, SMALL)
    position = network.position().reshape(6, 6, 16)
    assert torch.equal(position[2, :, 8:], network.rows[2].expand(6, 8))
    assert torch.equal(position[:, 3, :8], network.columns[3].expand(6, 8))


def test_jitter_is_in_proportion_to_the_norm() -> None:
    small = torch.randn(1, 40, 50, 50)
    x = torch.cat([small, 100 * small])
    moved = jittered(x, torch.randn(x.shape), 20.0) - x
    wanted = x.norm(dim=1).square().mean(dim=(1, 2)).sqrt() / 40 * 20
    assert torch.allclose(moved.std(dim=(1, 2, 3)), wanted, rtol=0.05)
    learner = Reconstruction(with_uniad(jitter=0.0), "cpu")
    (given,), target = learner.example(x, torch.randn(x.shape))
    assert torch.equal(given, x) and torch.equal(target, x)


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_resumed_training_equals_an_uninterrupted_one(tmp_path: Path, dropout: float) -> None:
    class Stop(Exception):
        pass

    def hook(done: int, total: int, loss: float) -> None:
        if done == 3:
            raise Stop

    config, path = with_uniad(dropout=dropout), tmp_path / "checkpoint.safetensors"
    whole = trained(config)
    with pytest.raises(Stop):
        trained(config, checkpoint=path, key="a", hook=hook)
    epochs: list[int] = []
    resumed = trained(
        config, checkpoint=path, key="a", resume=True, hook=lambda n, _, __: epochs.append(n)
    )
    assert epochs == [3, 4]
    assert equal(whole, resumed)


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_training_does_not_depend_on_the_number_of_cores(dropout: float) -> None:
    before = torch.get_num_threads()
    found = []
    for threads in (1, 3):
        torch.set_num_threads(threads)
        found.append(trained(with_uniad(dropout=dropout)))
    torch.set_num_threads(before)
    assert equal(*found)


def test_training_lowers_the_loss_and_depends_on_the_seed() -> None:
    config = dataclasses.replace(
        CONFIG, train=dataclasses.replace(CONFIG.train, epochs=25, learning_rate=1e-2)
    )
    still = features(1).expand(8, -1, -1, -1)
    losses = train_network(still, config, network="uniad", seed=0).losses
    assert losses[-1] < 0.3 * losses[0]
    other = train_network(features(), CONFIG, network="uniad", seed=2)
    assert not equal(other, trained())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model")
    fit(pictures(6, 0), tiny_request(path, config=CONFIG, network="uniad"))
    return path


@pytest.fixture(scope="module")
def model(folder: Path) -> LafiteModel:
    return LafiteModel.load(folder)


def test_a_model_is_found_again(folder: Path, model: LafiteModel) -> None:
    assert (folder / "uniad.safetensors").exists()
    assert not (folder / "unet.safetensors").exists()
    assert isinstance(model.network, Uniad)
    (folder / "uniad.safetensors").rename(folder / "away")
    with pytest.raises(LafiteError, match="does not match its hash"):
        LafiteModel.load(folder)
    (folder / "away").rename(folder / "uniad.safetensors")


def test_scores_do_not_depend_on_company_order_batch_or_cores(model: LafiteModel) -> None:
    images = pictures(3, 1)
    base = uniad_errors(model, images, KS)
    assert base.shape == (4, 3, 6, 6)
    turned = uniad_errors(model, images[::-1], KS[::-1])
    assert np.array_equal(turned[::-1, ::-1], base)
    for row, k in enumerate(KS):
        for column, image in enumerate(images):
            assert np.array_equal(uniad_errors(model, [image], [k])[0, 0], base[row, column])
    with single_threaded():
        assert np.array_equal(uniad_errors(model, images, KS), base)


def test_errors_are_distances_to_the_original_features(model: LafiteModel) -> None:
    """Step by step, with and without editing."""
    (image,) = pictures(1, 1)
    own = model.features([image])
    near = model.bank.search(patches(own), 5)
    edited = model.bank.edit(near, model.config.edit).T.reshape(own.shape)
    network = model.network
    assert network is not None
    with torch.inference_mode():
        wanted = [(own - network(given)).norm(dim=1)[0].numpy() for given in (own, edited)]
    found = uniad_errors(model, [image], [0, 5])[:, 0]
    assert np.allclose(found, wanted, rtol=1e-5, atol=1e-5)
    assert not np.allclose(*found)


def test_training_images_are_edited_by_the_others(folder: Path, model: LafiteModel) -> None:
    """Unedited they are images like any others; edited by the whole bank they would come closer."""
    with safe_open(folder / FEATURES, "pt") as file:
        raw = file.get_tensor("features")
    found = uniad_normal_errors(model, raw[:2], [0, 1])
    assert np.allclose(found[0], uniad_errors(model, pictures(6, 0)[:2], [0])[0], atol=1e-5)
    assert not np.allclose(found[1], found[0])


def test_the_score_is_the_highest_mean_of_a_window_without_a_gaussian(model: LafiteModel) -> None:
    errors = uniad_errors(model, pictures(2, 1), [0])
    grids = torch.from_numpy(errors[0])[:, None]
    whole = torch.nn.functional.interpolate(grids, 48, mode="bilinear", align_corners=False)
    wanted = torch.nn.functional.avg_pool2d(whole, 8, stride=1).amax(dim=(1, 2, 3))
    assert sweep.scores(model, errors)[0] == pytest.approx(wanted.numpy(), rel=1e-5)
    assert np.allclose(sweep.anomaly_maps(model, errors[0]), whole[:, 0], atol=1e-5)


def test_the_other_networks_model_is_refused(model: LafiteModel, tmp_path: Path) -> None:
    with pytest.raises(LafiteError, match="train it with --detector lafite"):
        sweep.lafite_errors(model, pictures(1, 1), [(200, 0)], seed=0)
    bare = fit(pictures(6, 0), tiny_request(tmp_path, network=None))
    with pytest.raises(LafiteError, match="train it with --detector uniad"):
        uniad_errors(bare, pictures(1, 1), [0])


def test_on_a_gpu_it_is_that_of_the_cpu(model: LafiteModel, folder: Path) -> None:
    device = "cuda:1"
    exact = dataclasses.replace(CONFIG.train, precision="float32")
    config = dataclasses.replace(with_uniad(dropout=0.0), train=exact)
    losses = trained(config).losses
    base = uniad_errors(model, pictures(3, 1), KS)
    with pretended_gpu() as gpu:
        assert np.allclose(trained(config, device=device).losses, losses, atol=1e-5)
        trained(dataclasses.replace(CONFIG, train=exact), device=device)  # with dropout
        there = LafiteModel.load(folder, device)
        there.config = dataclasses.replace(
            CONFIG, score=dataclasses.replace(CONFIG.score, precision="float32")
        )
        images = pictures(3, 1)
        there.prepare(images)
        uniad_errors(there, images, KS)  # what waits for the first call alone
        gpu.waits.clear()
        found = uniad_errors(there, images, KS)
        assert gpu.waits.total() == 1, "for the result"
    assert np.allclose(found, base, atol=1e-5)


def test_a_gpu_without_memory_for_a_batch_scores_in_pieces(
    model: LafiteModel, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    images = pictures(16, 1)
    base = uniad_errors(model, images, [0])
    with pretended_gpu() as gpu:
        there = LafiteModel.load(folder, "cuda")
        score = dataclasses.replace(CONFIG.score, precision="float32", batch_size=16)
        there.config = dataclasses.replace(CONFIG, score=score)
        there.prepare(images)
        gpu.peak.clear()
        uniad_errors(there, images, [0])
        gpu.memory = 0.8 * gpu.peak["cuda:0"]
        found = uniad_errors(there, images, [0])
    assert "does not hold batches of 16" in caplog.text
    assert np.allclose(found, base, atol=1e-5)


@pytest.mark.parametrize(
    ("option", "value"), [("neighbourhood", 4), ("heads", 3), ("width", 15), ("dropout", 1.0)]
)
def test_bad_options_are_refused(option: str, value: float) -> None:
    with pytest.raises(LafiteError, match=f"The option uniad.{option} is {value}"):
        with_uniad(**{option: value})


@pytest.mark.parametrize("name", ["cpu", "paper", "demo"])
def test_presets_have_its_features_and_its_score(name: str) -> None:
    config = uniad_preset(name)
    assert (config.features.resize, config.score.sigma, config.score.pool) == ("bilinear", 0, 16)
    assert config.features.normalise == "none"
    if name == "paper":
        train = config.train
        assert config.uniad == UniadConfig() and (train.epochs, train.batch_size) == (1000, 8)
        assert (train.learning_rate, train.weight_decay, train.clip_norm) == (1e-4, 1e-4, 0.1)
        assert (train.drop_after, train.drop_factor) == (0.8, 0.1)
    with pytest.raises(LafiteError, match="no preset 'other'"):
        uniad_preset("other")
