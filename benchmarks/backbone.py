"""Images per second through the backbone, beside timm's ``features_only`` network.

    python benchmarks/backbone.py DATA --weights FILE [--device cuda] [--quick] [--out FILE.json]

From decoded uint8 images to features ``[272, 14, 14]`` of EfficientNet-b4: resizing,
normalisation, network, one grid. Ours is what train and tune do; the peer is
``timm.create_model("tf_efficientnet_b4", features_only=True, out_indices=(0, 1, 2, 3))`` as one
writes it down, in the default memory layout, at its fastest of several batch sizes. Rounds of both
alternate, and medians are compared. Beside them stands the limit: the operations of the cut
network over what a large matrix product reaches on this machine.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from harness import result, show
from lafite_core.backbones import make_backbone
from lafite_core.config import FeatureConfig
from lafite_core.feature_cache import FeatureSource
from lafite_core.features import FeatureExtractor, aggregate, preprocess
from lafite_core.parallel import on_each_core
from pseudoval.data.files import write_json
from pseudoval.data.images import read_rgb
from throughput import matmul_flops

BATCHES = (1, 8, 16)
CONFIG = FeatureConfig()


class Peer:
    """timm's own feature extractor, and the rest of the way in batches."""

    def __init__(self, weights: Path, device: str) -> None:
        self.network = timm.create_model(
            CONFIG.backbone, features_only=True, out_indices=(0, 1, 2, 3), pretrained=False
        )
        # Stages after the fourth, which it runs and throws away, keep their random weights.
        self.network.load_state_dict(load_file(weights), strict=False)
        self.network.eval().to(device)
        self.device = device
        shape = (1, 3, 1, 1)
        settings = self.network.pretrained_cfg
        self.mean = torch.tensor(settings["mean"], device=device).reshape(shape)
        self.std = torch.tensor(settings["std"], device=device).reshape(shape)

    @torch.inference_mode()
    def __call__(self, images: list[np.ndarray], batch: int) -> Tensor:
        """Features ``[N, 272, 14, 14]`` on the CPU."""
        found = []
        for start in range(0, len(images), batch):
            part = images[start : start + batch]
            pixels = torch.stack([preprocess(image, CONFIG.image_size) for image in part])
            maps = self.network((pixels.to(self.device) - self.mean) / self.std)
            found.append(aggregate(maps, CONFIG.grid, CONFIG.resize).cpu())
        return torch.cat(found)


def seconds(work: Callable[[], Any]) -> float:
    """Wall time of a call."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def network_flops(network: Callable[[Tensor], Any], device: str) -> float:
    """Floating-point operations for one image, two for a multiplication with its addition."""
    image = torch.zeros(1, 3, CONFIG.image_size, CONFIG.image_size, device=device)
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        network(image)
    return float(counter.get_total_flops())


def measure(
    images: list[np.ndarray], files: list[Path], weights: Path, device: str, rounds: int
) -> dict[str, Any]:
    """Figures and checks; ``images`` are the content of ``files``."""
    source = FeatureSource(FeatureExtractor(make_backbone(CONFIG, weights), CONFIG, device))
    peer = Peer(weights, device)

    def ours() -> Tensor:
        return torch.stack(list(source.stream(images)))

    def with_reading() -> None:
        for _ in source.stream(on_each_core(read_rgb, files)):
            pass

    def reading() -> None:
        for _ in on_each_core(read_rgb, files):
            pass

    mine, other = ours(), peer(images, 8)  # and everything is warm
    rates: dict[str, list[float]] = {}
    for _ in range(rounds):
        works = {"ours": ours, "with reading": with_reading, "reading": reading}
        works |= {f"peer {batch}": lambda batch=batch: peer(images, batch) for batch in BATCHES}
        for name, work in works.items():
            rates.setdefault(name, []).append(len(images) / seconds(work))
    medians = {name: statistics.median(values) for name, values in rates.items()}
    best = max(BATCHES, key=lambda batch: medians[f"peer {batch}"])
    cut, whole = (
        network_flops(network, device) for network in (source.extractor.backbone, peer.network)
    )
    flops = matmul_flops(device, "float32")
    away = float((mine - other).abs().max())
    name = "backbone_b4" if device == "cpu" else "backbone_b4_cuda"
    return {
        "figures": {
            name: {
                "ours": medians["ours"],
                "peer": medians[f"peer {best}"],
                "peer_name": f"timm {timm.__version__} features_only, batches of {best}",
                "ratio": medians["ours"] / medians[f"peer {best}"],
                "unit": "images/s from decoded images",
            }
        },
        "checks": {
            "largest_difference": away,
            "largest_difference_relative": away / float(other.abs().max()),
            "one_image_alone_is_bit_equal": all(
                torch.equal(source.extractor.extract(image), features)
                for image, features in zip(images[:3], mine, strict=False)
            ),
            "images": len(images),
            "gmacs_cut": cut / 2e9,
            "gmacs_peer": whole / 2e9,
            "matmul_gflops": flops / 1e9,
            "limit_images_per_second": flops / cut,
            "share_of_limit": medians["ours"] * cut / flops,
            "reading_alone_images_per_second": medians["reading"],
            "with_reading_images_per_second": medians["with reading"],
            "peer_images_per_second": {str(b): medians[f"peer {b}"] for b in BATCHES},
            "rounds": {n: [round(v, 2) for v in values] for n, values in rates.items()},
        },
    }


def main(arguments: list[str] | None = None) -> None:
    """Measure, print and write the figures."""
    parser = argparse.ArgumentParser(description="Backbone speed beside timm's features_only.")
    parser.add_argument("data", type=Path, help="folder that is searched for images")
    parser.add_argument("--weights", type=Path, required=True, help="safetensors, stages 1 to 4")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--quick", action="store_true", help="few images, one round")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args(arguments)
    if given.device == "cuda" and not torch.cuda.is_available():
        print("backbone_b4_cuda: not measured, there is no GPU here")
        return
    count, rounds = (8, 1) if given.quick else (64, 5)
    files = list(islice(sorted(given.data.rglob("train/good/*.png")), count))
    images = [read_rgb(path) for path in files]
    found = measure(images, files, given.weights, given.device, rounds)
    if given.device == "cpu" and not torch.cuda.is_available():
        found["checks"]["backbone_b4_cuda"] = "not measured"
    show(found)
    if given.out is not None:
        write_json(given.out, result(found, device=given.device, seed=0))


if __name__ == "__main__":
    main()
