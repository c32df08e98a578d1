"""The promises of scoring: bit-equal whatever is scored beside, in any order and batch."""

import dataclasses
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_model import CONFIG, GRID, pictures, request

from lafite_core import sweep
from lafite_core.config import DiffusionConfig, ScoreConfig
from lafite_core.errors import LafiteError
from lafite_core.features import patches
from lafite_core.fit import fit
from lafite_core.model import LafiteModel
from lafite_core.train_features import FEATURES


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model")
    fit(pictures(6, 0), request(path, info={"note": "x"}))
    return path


@pytest.fixture(scope="module")
def model(folder: Path) -> LafiteModel:
    return LafiteModel.load(folder)


def test_scores_do_not_depend_on_company_order_or_batch(model: LafiteModel) -> None:
    images = pictures(3, 1)
    base = sweep.lafite_errors(model, images, GRID, seed=0)
    assert base.shape == (6, 3, 7, 7)
    order = [4, 0, 5, 2, 1, 3]
    shuffled = sweep.lafite_errors(model, images[::-1], [GRID[i] for i in order], seed=0)
    assert np.array_equal(shuffled[:, ::-1], base[order])
    for row, config in enumerate(GRID):
        for column, image in enumerate(images):
            alone = sweep.lafite_errors(model, [image], [config], seed=0)[0, 0]
            assert np.array_equal(alone, base[row, column])


def test_noise_is_the_same_for_every_configuration(
    model: LafiteModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[torch.Tensor] = []
    depths: list[int] = []
    denoise, search = sweep.denoise, model.bank.search
    monkeypatch.setattr(sweep, "denoise", lambda *a: seen.extend(a[1]) or denoise(*a))
    monkeypatch.setattr(model.bank, "search", lambda p, k, spare: depths.append(k) or search(p, k))
    sweep.lafite_errors(model, pictures(1, 1), GRID, seed=0)
    noises = torch.stack(seen)
    assert torch.equal(noises, noises[:1].expand_as(noises))
    assert depths == [20], "neighbours are searched once, at the largest K"


def test_an_explanation_is_what_was_scored(model: LafiteModel) -> None:
    image = pictures(1, 1)[0]
    found = sweep.explain(model, [image], 200, 5, 0, noised_t=900)[0]
    errors = sweep.lafite_errors(model, [image], [(200, 0), (200, 5)], seed=0)[:, 0]
    assert np.array_equal(found.plain, errors[0])
    assert np.array_equal(found.edited, errors[1])
    assert np.array_equal(found.features, model.features([image])[0].numpy())
    distance = np.sqrt(((found.features - found.reconstruction) ** 2).sum(0))
    assert np.allclose(distance, found.edited, atol=1e-4)


@pytest.mark.parametrize("k", [0, 5])
def test_images_are_explained_together_as_each_alone(
    model: LafiteModel, monkeypatch: pytest.MonkeyPatch, k: int
) -> None:
    """Their trajectories share batches of four."""
    images = pictures(5, 1)
    alone = [sweep.explain(model, [image], 200, k, 0, noised_t=900)[0] for image in images]
    filled: list[int] = []
    reconstruct = sweep._reconstruct
    monkeypatch.setattr(
        sweep, "_reconstruct", lambda m, batch: filled.append(len(batch)) or reconstruct(m, batch)
    )
    together = sweep.explain(model, images, 200, k, 0, noised_t=900)
    assert sorted(filled) == ([2, 4, 4] if k else [1, 4])
    for one, other in zip(alone, together, strict=True):
        assert all(np.array_equal(a, vars(other)[name]) for name, a in vars(one).items())
    assert not np.array_equal(together[0].plain, together[1].plain)


def test_the_noised_features_keep_the_share_that_the_schedule_says(model: LafiteModel) -> None:
    image = pictures(1, 1)[0]
    near, far = (sweep.explain(model, [image], 200, 5, 0, noised_t=t)[0].noised for t in (1, 999))
    features = model.features([image])[0].numpy()
    assert np.abs(near - features).max() < 0.2
    correlation = np.corrcoef(far.ravel(), features.ravel())[0, 1]
    assert abs(correlation) < 0.1
    assert far.std() == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize(
    "section",
    [{"diffusion": DiffusionConfig(sampling_steps=3, eta=1.0)},
     {"diffusion": DiffusionConfig(sampling_steps=3, target="v")},
     {"score": ScoreConfig(batch_size=4, pool=8, precision="bfloat16")}],
    ids=["eta", "target", "bfloat16"],
)  # fmt: skip
def test_every_sampler_keeps_the_promises(model: LafiteModel, section: dict[str, Any]) -> None:
    other = dataclasses.replace(model, config=dataclasses.replace(CONFIG, **section))
    images = pictures(2, 1)
    base = sweep.lafite_errors(other, images, GRID, seed=0)
    assert np.isfinite(base).all()
    assert not np.array_equal(base, sweep.lafite_errors(model, images, GRID, seed=0))
    alone = sweep.lafite_errors(other, images[1:], GRID[3:4], seed=0)
    assert np.array_equal(alone[0, 0], base[3, 1])


def test_seed_changes_the_noise(model: LafiteModel) -> None:
    one, two = (sweep.lafite_errors(model, pictures(1, 1), [(500, 0)], seed=s) for s in (0, 1))
    assert not np.array_equal(one, two)


def test_editing_pulls_towards_the_bank(model: LafiteModel) -> None:
    """K = 1 starts from bank members: another image's error differs, a member's does not."""
    image = pictures(1, 9)[0]
    plain, edited = sweep.lafite_errors(model, [image], [(25, 0), (25, 1)], seed=0)[:, 0]
    assert edited.mean() > plain.mean()


def test_knn_errors_are_mean_distances(model: LafiteModel) -> None:
    image = pictures(1, 3)[0]
    errors = sweep.knn_errors(model, [image], [1, 4])
    distances = torch.cdist(patches(model.features([image])), model.bank.vectors)
    for row, k in enumerate((1, 4)):
        mean = distances.topk(k, largest=False).values.mean(1)
        assert np.allclose(errors[row, 0].ravel(), mean.numpy(), atol=1e-4)


def test_score_is_that_of_the_rendered_map(model: LafiteModel) -> None:
    errors = sweep.knn_errors(model, pictures(2, 3), [1, 4])
    maps = sweep.anomaly_maps(model, errors[0])
    assert maps.shape == (2, 56, 56)
    pooled = torch.nn.functional.avg_pool2d(torch.from_numpy(maps)[:, None], 8, stride=1)
    assert np.allclose(sweep.scores(model, errors)[0], pooled.amax((1, 2, 3)).numpy())


def test_saved_model_scores_the_same(model: LafiteModel, folder: Path) -> None:
    again = LafiteModel.load(folder)
    assert again.sha256() == model.sha256()
    assert again.config == CONFIG
    assert again.info["note"] == "x"
    one, two = (sweep.lafite_errors(m, pictures(1, 1), GRID, seed=0) for m in (model, again))
    assert np.array_equal(one, two)


def test_core_set_is_a_tenth_of_the_training_patches(model: LafiteModel) -> None:
    assert len(model.bank) == round(0.1 * 6 * 49)
    members = torch.cat([patches(model.features([image])) for image in pictures(6, 0)])
    assert float(torch.cdist(model.bank.vectors.double(), members.double()).amin(1).max()) < 1e-4


def test_changed_or_missing_files_are_noticed(folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "model"
    copy.mkdir()
    for file in folder.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    bank = copy / "bank.safetensors"
    data = bytearray(bank.read_bytes())
    data[-1] ^= 1
    bank.write_bytes(data)
    with pytest.raises(LafiteError, match="does not match its hash"):
        LafiteModel.load(copy)
    bank.write_bytes(data[:100])
    with pytest.raises(LafiteError, match="cannot be read"):
        LafiteModel.load(copy)
    (copy / "model.json").unlink()
    with pytest.raises(LafiteError, match="no finished model"):
        LafiteModel.load(copy)


def test_resume_reads_features_instead_of_images(folder: Path, tmp_path: Path) -> None:
    (tmp_path / FEATURES).write_bytes((folder / FEATURES).read_bytes())
    again = fit([], request(tmp_path, resume=True))
    assert again.sha256() == LafiteModel.load(folder).sha256()
    (tmp_path / FEATURES).write_bytes(b"cut short")
    other = fit(pictures(6, 0), request(tmp_path, resume=True, network=None))
    assert other.network is None
    with pytest.raises(LafiteError, match="no diffusion network"):
        sweep.lafite_errors(other, pictures(1, 0), [(25, 0)], seed=0)


def test_neighbour_weights_are_an_option(model: LafiteModel) -> None:
    uniform = dataclasses.replace(
        model.config, edit=dataclasses.replace(model.config.edit, weights="uniform")
    )
    other = dataclasses.replace(model, config=uniform)
    one, two = (sweep.lafite_errors(m, pictures(1, 1), [(25, 5)], seed=0) for m in (model, other))
    assert not np.array_equal(one, two)


def everything(model: LafiteModel) -> list[np.ndarray]:
    """Whatever scoring computes, from images to maps."""
    images = pictures(5, 1)
    errors = sweep.lafite_errors(model, images, GRID, seed=0)
    explained = sweep.explain(model, images[:3], 200, 5, 0, noised_t=900)[2]
    nearest = sweep.knn_errors(model, images, [1, 4])
    maps = sweep.anomaly_maps(model, errors[0])
    return [errors, sweep.scores(model, errors), maps, nearest, *vars(explained).values()]


@pytest.mark.parametrize("threads", [2, 3])
def test_the_number_of_threads_changes_no_bit(model: LafiteModel, threads: int) -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = everything(model)
        torch.set_num_threads(threads)
        several = everything(model)
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert all(np.array_equal(a, b) for a, b in zip(one, several, strict=True))


def test_images_and_network_calls_are_spread_over_the_cores(
    model: LafiteModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With one thread of arithmetic each."""
    seen: dict[str, set[tuple[int, int]]] = {"image_noise": set(), "_reconstruct": set()}
    for name, own in [(name, getattr(sweep, name)) for name in seen]:

        def watched(*args: Any, name: str = name, own: Any = own, **options: Any) -> Any:
            seen[name].add((threading.get_ident(), torch.get_num_threads()))
            time.sleep(0.05)
            return own(*args, **options)

        monkeypatch.setattr(sweep, name, watched)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        sweep.lafite_errors(model, pictures(4, 1), GRID, seed=0)
    finally:
        torch.set_num_threads(before)
    for workers in seen.values():
        assert len({thread for thread, _ in workers}) == 2
        assert {count for _, count in workers} == {1}


class Crowded(torch.nn.Module):
    """A network on a device whose memory holds so many maps at once."""

    def __init__(self, unet: torch.nn.Module, room: int) -> None:
        super().__init__()
        self.unet, self.room, self.sizes = unet, room, list[int]()

    def forward(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        if len(x) > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory")
        self.sizes.append(len(x))
        return self.unet(x, t)


@pytest.mark.parametrize("room", [1, 2, 3])
def test_without_memory_for_a_batch_it_is_taken_in_pieces(
    model: LafiteModel, room: int, caplog: pytest.LogCaptureFixture
) -> None:
    assert model.network is not None
    crowded = Crowded(model.network, room)
    other = dataclasses.replace(model, network=crowded)
    base = sweep.lafite_errors(model, pictures(2, 1), GRID, seed=0)
    for _ in range(2):
        found = sweep.lafite_errors(other, pictures(2, 1), GRID, seed=0)
        assert np.allclose(found, base, rtol=1e-5, atol=1e-5)
    assert set(crowded.sizes) == {1 if room == 1 else 2}, "one shape for all pieces"
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 1
    assert "does not hold batches of 4" in told[0]


def test_without_memory_for_one_trajectory_there_is_a_sentence(model: LafiteModel) -> None:
    assert model.network is not None
    other = dataclasses.replace(model, network=Crowded(model.network, 0))
    with pytest.raises(LafiteError, match="does not hold the model and one trajectory"):
        sweep.lafite_errors(other, pictures(1, 1), GRID, seed=0)
