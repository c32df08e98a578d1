"""A cache gives back the same bits, trusts nothing, and never breaks what it speeds up."""

import errno
import logging
import multiprocessing
import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import texture
from safetensors.torch import load_file

from lafite_core.backbones import make_backbone
from lafite_core.config import FeatureConfig, LafiteConfig
from lafite_core.errors import LafiteError
from lafite_core.feature_cache import FeatureCache, FeatureSource, feature_settings, pixel_digest
from lafite_core.features import FeatureExtractor
from lafite_core.files import replacing
from lafite_core.fit import FitRequest, fit
from lafite_core.train_features import ABANDONED, FEATURES

CONFIG = FeatureConfig(backbone="filterbank", image_size=64, grid=8)
IMAGES = [texture(seed, 64) for seed in range(40)]


class Counting(FeatureExtractor):
    """Counts the images that went through the backbone."""

    extracted = 0

    def extract(self, image: np.ndarray) -> torch.Tensor:
        self.extracted += 1
        return super().extract(image)


def source(folder: Path | None, config: FeatureConfig = CONFIG) -> FeatureSource:
    backbone = make_backbone(config)
    settings = feature_settings(config, backbone, "cpu")
    cache = FeatureCache(folder, settings) if folder else None
    return FeatureSource(Counting(backbone, config), cache)


def run(folder: Path | None, images: list[np.ndarray] = IMAGES) -> tuple[torch.Tensor, int]:
    """Features ``[N, C, h, w]`` and how many of them were extracted."""
    found = source(folder)
    features = torch.stack(list(found.stream(images)))
    return features, found.extractor.extracted


def files(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.safetensors"))


@pytest.fixture(scope="module")
def expected() -> torch.Tensor:
    return run(None)[0]


@pytest.fixture
def filled(tmp_path: Path) -> Path:
    assert run(tmp_path / "cache")[1] == len(IMAGES)
    return tmp_path / "cache"


def test_features_are_computed_once_and_come_back_bit_by_bit(
    filled: Path, expected: torch.Tensor
) -> None:
    assert len(files(filled)) == len(IMAGES)
    again, extracted = run(filled)
    assert extracted == 0
    assert torch.equal(again, expected)
    backwards, extracted = run(filled, IMAGES[::-1])
    assert extracted == 0
    assert torch.equal(backwards.flip(0), expected)


def test_a_file_is_an_ordinary_safetensors_file(filled: Path, expected: torch.Tensor) -> None:
    for image, features in zip(IMAGES[:3], expected[:3], strict=True):
        (path,) = filled.rglob(f"{pixel_digest(image)}.safetensors")
        assert torch.equal(load_file(path)["features"], features)


@pytest.mark.parametrize(
    "change", [{"image_size": 96}, {"grid": 7}, {"stages": (1, 2)}, {"mean": (0.5, 0.5, 0.5)}]
)
def test_other_settings_have_other_features(filled: Path, change: dict) -> None:
    other = source(filled, FeatureConfig(**{**vars(CONFIG), **change}))
    list(other.stream(IMAGES[:2]))
    assert other.extractor.extracted == 2


def test_how_features_are_standardised_does_not_matter(filled: Path) -> None:
    other = source(filled, FeatureConfig(**{**vars(CONFIG), "normalise": "none"}))
    list(other.stream(IMAGES))
    assert other.extractor.extracted == 0


def test_weights_and_device_matter() -> None:
    class Weights:
        def __init__(self, value: float) -> None:
            self.value = value

        def state_dict(self) -> dict[str, torch.Tensor]:
            return {"w": torch.tensor(self.value)}

    one, two = (feature_settings(CONFIG, Weights(v), "cpu") for v in (1.0, 2.0))  # type: ignore[arg-type]
    assert one != two
    assert torch.__version__ in one["versions"]
    assert torch.backends.cpu.get_cpu_capability() in one["processor"]


def test_content_counts_and_not_the_array(rng: np.random.Generator) -> None:
    image = rng.integers(0, 256, (6, 4, 3), dtype=np.uint8)
    assert pixel_digest(image) == pixel_digest(np.asfortranarray(image))
    assert pixel_digest(image) != pixel_digest(image.reshape(4, 6, 3))
    changed = image.copy()
    changed[5, 3, 2] ^= 1
    assert pixel_digest(image) != pixel_digest(changed)


def damage(path: Path, how: str) -> None:
    data = bytearray(path.read_bytes())
    start = 8 + int.from_bytes(data[:8], "little")
    if how == "cut short":
        data = data[: len(data) // 2]
    elif how == "one bit":
        data[start + 1000] ^= 4
    elif how == "empty":
        data = bytearray()
    elif how == "no header":
        data[:start] = bytes(start)
    path.write_bytes(data)


@pytest.mark.parametrize("how", ["cut short", "one bit", "empty", "no header"])
def test_a_damaged_file_is_rebuilt_and_never_trusted(
    filled: Path, expected: torch.Tensor, how: str
) -> None:
    damage(files(filled)[0], how)
    features, extracted = run(filled)
    assert torch.equal(features, expected)
    assert extracted == 1
    assert run(filled)[1] == 0


def test_the_file_of_another_image_or_key_is_not_trusted(filled: Path) -> None:
    first, second = files(filled)[:2]
    first.write_bytes(second.read_bytes())
    assert run(filled)[1] == 1
    other = source(filled, FeatureConfig(**{**vars(CONFIG), "resize": "bilinear"}))
    assert other.cache is not None
    there = other.cache.path(pixel_digest(IMAGES[0]))
    there.parent.mkdir()
    (here,) = filled.rglob(f"{pixel_digest(IMAGES[0])}.safetensors")
    there.write_bytes(here.read_bytes())
    list(other.stream(IMAGES[:1]))
    assert other.extractor.extracted == 1


def test_a_full_disk_is_one_sentence_and_the_next_run_goes_on(
    tmp_path: Path, expected: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, honest, written = tmp_path / "cache", Path.write_bytes, []

    def filling(path: Path, data: bytes) -> int:
        written.append(path)
        if len(written) > 20:
            honest(path, data[:1000])
            raise OSError(errno.ENOSPC, "No space left on device")
        return honest(path, data)

    monkeypatch.setattr(Path, "write_bytes", filling)
    with pytest.raises(LafiteError, match=r"The disk is full.*--cache DIR.*--no-cache\.$"):
        run(folder)
    monkeypatch.undo()
    assert [path.suffix for path in folder.rglob("*") if path.is_file()] == [".safetensors"] * 20
    features, extracted = run(folder)
    assert torch.equal(features, expected)
    assert extracted == len(IMAGES) - 20


def test_a_full_device_stops_a_real_write(tmp_path: Path) -> None:
    """The kernel's own full device, through the same code."""
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("there is no /dev/full here")
    cache = FeatureCache(tmp_path / "cache", {"a": 1})
    honest = Path.open

    def to_full(path: Path, *arguments: str, **options: str) -> object:
        return honest(full if path.name.endswith(".tmp") else path, *arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "open", to_full)
        with pytest.raises(LafiteError, match="The disk is full"):
            cache.add("0" * 32, torch.zeros(4, 8, 8))
    assert not files(tmp_path)


def test_a_place_that_cannot_be_written_to_is_said_once(
    tmp_path: Path,
    expected: torch.Tensor,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refuse)
    with caplog.at_level(logging.WARNING):
        features, extracted = run(tmp_path / "cache")
    assert torch.equal(features, expected)
    assert extracted == len(IMAGES)
    assert [record.message for record in caplog.records] == [
        f"Features are not kept: {tmp_path / 'cache'} cannot be written to (Permission denied)."
    ]


def extract_slowly(folder: Path) -> None:
    found = source(folder)
    for _ in found.stream(IMAGES):
        time.sleep(0.05)


def test_a_killed_process_leaves_whole_files_and_the_next_goes_on(
    tmp_path: Path, expected: torch.Tensor
) -> None:
    folder = tmp_path / "cache"
    process = multiprocessing.get_context("spawn").Process(target=extract_slowly, args=(folder,))
    process.start()
    deadline = time.monotonic() + 300
    while not files(folder) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    held = len(files(folder))
    assert held
    features, extracted = run(folder)
    assert torch.equal(features, expected)
    assert extracted == len(IMAGES) - held


def extract_half(folder: Path, backwards: bool) -> None:
    run(folder, IMAGES[::-1] if backwards else IMAGES)


def test_processes_may_fill_one_cache_at_the_same_time(
    tmp_path: Path, expected: torch.Tensor
) -> None:
    folder, context = tmp_path / "cache", multiprocessing.get_context("spawn")
    processes = [context.Process(target=extract_half, args=(folder, i % 2 == 1)) for i in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    features, extracted = run(folder)
    assert extracted == 0
    assert torch.equal(features, expected)


def test_what_another_process_adds_is_found_without_opening_again(tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    early = source(folder)
    list(early.stream(IMAGES[:4]))
    run(folder, IMAGES[20:])
    list(early.stream(IMAGES[20:]))
    assert early.extractor.extracted == 4


def request(folder: Path, count: int = len(IMAGES), **options: Any) -> FitRequest:
    """Of a model without a network."""
    keys = [str(number) for number in range(count)]
    backbone = make_backbone(CONFIG)
    return FitRequest(keys=keys, config=LafiteConfig(features=CONFIG), backbone=backbone,
                      folder=folder, seed=0, network=None, **options)  # fmt: skip


def test_writers_of_one_name_on_one_disk_do_not_meet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two containers with one host name and one process id write the same file at once."""
    monkeypatch.setattr("platform.node", lambda: "container")
    monkeypatch.setattr("os.getpid", lambda: 7)
    path = tmp_path / "x.safetensors"
    with replacing(path) as one:
        one.write_bytes(b"one")
        with replacing(path) as other:
            assert other != one
            other.write_bytes(b"other")
        assert path.read_bytes() == b"other"
        assert one.read_bytes() == b"one"
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_bytes() == b"one"


def test_a_training_leaves_what_others_are_writing_alone(tmp_path: Path) -> None:
    """Only a file that nobody has written to for a day is that of a process that is gone."""
    live, dead = (tmp_path / f".{FEATURES}.elsewhere.{n}.tmp" for n in (1, 2))
    for path in (live, dead):
        path.write_bytes(b"half")
    os.utime(dead, (time.time() - 2 * ABANDONED,) * 2)
    fit(IMAGES[:4], request(tmp_path, 4))
    assert live.read_bytes() == b"half"
    assert not dead.exists()


def test_features_of_a_training_go_on_after_a_kill(tmp_path: Path) -> None:
    def until(count: int) -> object:
        yield from IMAGES[:count]
        raise KeyboardInterrupt

    cache = tmp_path / "cache"
    with pytest.raises(KeyboardInterrupt):
        fit(until(37), request(tmp_path, cache=cache))
    assert not (tmp_path / FEATURES).exists()
    assert not list(tmp_path.glob("*.tmp"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lafite_core.fit.FeatureExtractor", Counting)
        counts = []
        honest = Counting.extract
        patch.setattr(Counting, "extract", lambda *a: counts.append(1) or honest(*a))
        fit(IMAGES, request(tmp_path, cache=cache, resume=True))
    assert len(counts) <= 4


@pytest.mark.parametrize("how", ["cut short", "one bit"])
def test_damaged_training_features_are_computed_again(tmp_path: Path, how: str) -> None:
    fit(IMAGES, request(tmp_path))
    whole = (tmp_path / FEATURES).read_bytes()
    damage(tmp_path / FEATURES, how)
    fit(IMAGES, request(tmp_path, resume=True))
    assert (tmp_path / FEATURES).read_bytes() == whole


def test_a_block_is_at_hand_without_a_cache() -> None:
    found = source(None)
    found.prepare(IMAGES[:5])
    honest = FeatureExtractor(make_backbone(CONFIG), CONFIG)
    assert all(torch.equal(found(image), honest.extract(image)) for image in IMAGES[:5])
    assert found.extractor.extracted == 5
