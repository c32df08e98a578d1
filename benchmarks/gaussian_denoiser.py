"""What the best linear denoiser would detect: how far editing and standardising carry LafitE.

    python benchmarks/gaussian_denoiser.py DATA --pseudo PSEUDO --weights FILE --work WORK

In the place of the trained network stands the denoiser that is the best one for features with a
Gaussian distribution, computed from the covariance of the training features: what a linear path of
full width tends to, without an hour of training. All else is the product: features, memory bank,
editing, trajectories, standardised image scores. Each category has a model of its own. Every row is
compared with nearest neighbours on the same features, with a paired 95 % interval.
"""

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from harness import result
from lafite_core.config import LafiteConfig
from lafite_core.diffusion import cosine_schedule
from lafite_core.model import LafiteModel
from lafite_core.predictor import Predictor
from pseudoval.data.dataset import test_items
from pseudoval.data.files import write_json
from pseudoval.detectors.banks import training_features
from pseudoval.detectors.knn import KnnDetector
from pseudoval.detectors.lafite import LafiteDetector
from pseudoval.metrics.score_matrix import Config, ScoreMatrix, config_name
from pseudoval.models.train import train
from pseudoval.pseudo_set.manifest import load_manifest
from pseudoval.scoring.matrices import score_images
from pseudoval.statistics.bootstrap import bootstrap_auroc
from pseudoval.statistics.intervals import paired_interval

KNN: Config = {"k": 1}
CONFIGS: tuple[Config, ...] = tuple({"t": t, "k": k} for k in (0, 3) for t in (100, 400))


class GaussianDenoiser(nn.Module):
    """The mean of the noise given ``x_t``, for features with mean 0 and some covariance.

    Along a principal axis of variance v it is ``sqrt(1 - a) / (a v + 1 - a)`` times ``x_t``, where
    a is ``alpha_bar`` at t.

    Args:
        features: standardised ``[N, C, h, w]``.
    """

    def __init__(self, features: Tensor, config: LafiteConfig) -> None:
        super().__init__()
        patches = features.double().transpose(0, 1).flatten(1)  # [C, N h w]
        variance, axes = torch.linalg.eigh(patches @ patches.T / patches.shape[1])
        self.register_buffer("variance", variance.clamp_min(0).float())
        self.register_buffer("axes", axes.float())
        self.register_buffer("alpha_bar", cosine_schedule(config.diffusion).float())

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """``[B, C, h, w]`` and ``[B]`` to the noise, ``[B, C, h, w]``."""
        a = self.alpha_bar[t][:, None]
        gain = (1 - a).sqrt() / (a * self.variance + 1 - a)
        along = torch.einsum("bchw,cd->bdhw", x, self.axes) * gain[:, :, None, None]
        return torch.einsum("bdhw,cd->bchw", along, self.axes)


def detectors(folder: Path, standardise: str) -> tuple[KnnDetector, LafiteDetector]:
    """Nearest neighbours, and LafitE with the Gaussian denoiser, over one model of ``knn``."""
    model = LafiteModel.load(folder)
    object.__setattr__(model.config.score, "standardise", standardise)
    knn = KnnDetector(model, 0, folder)
    network: Any = GaussianDenoiser(model.standardised(training_features(folder)), model.config)
    with_network = LafiteModel.load(folder)
    with_network.config = model.config
    with_network.network, with_network.predictor = network, Predictor(network, "cpu")
    return knn, LafiteDetector(with_network, 0, folder)


def category_scores(folder: Path, data: Path, category: str) -> tuple[list[str], ScoreMatrix]:
    """Names of the rows, the first being plain nearest neighbours, and the scores of all."""
    items, names, parts = test_items(data, category), [], []
    for standardise in ("none", "position"):
        knn, lafite = detectors(folder, standardise)
        for detector, configs in ((knn, [KNN]), (lafite, CONFIGS)):
            found = score_images(detector, items, configs, name=category, pixels=False)
            parts.append(found)
            names += [f"{detector.name} {standardise} {config_name(one)}" for one in configs]
    scores = np.concatenate([part.scores for part in parts])
    configs = [{"row": name} for name in names]
    whole = dataclasses.replace(parts[0], scores=scores, configs=configs)
    return names, whole


def table(names: Sequence[str], matrices: Sequence[ScoreMatrix]) -> dict[str, Any]:
    """Mean image AUROC of every row, and its distance to the first one with a 95 % interval."""
    replicates = bootstrap_auroc(
        np.concatenate([one.scores for one in matrices], axis=1),
        np.concatenate([one.categories for one in matrices]),
        np.concatenate([one.labels for one in matrices]),
        np.concatenate([one.groups for one in matrices]),
    )
    return {
        name: {
            "image_auroc": float(replicates.means[row]),
            "minus_knn": float(replicates.means[row] - replicates.means[0]),
            "interval": list(paired_interval(replicates, row, 0)) if row else [0.0, 0.0],
        }
        for row, name in enumerate(names)
    }


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--pseudo", type=Path, required=True, help="which normals are held out")
    parser.add_argument("--weights", type=Path, help="of the backbone")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--preset", default="cpu")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.OPTION=VALUE")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args(arguments)
    settings = dict(pair.split("=", 1) for pair in options.set)
    categories = load_manifest(options.pseudo)["categories"]
    train(
        options.data, options.pseudo, options.work / "model", detector="knn",
        preset=options.preset, weights=options.weights, settings=settings, device="cpu",
        per_category=True, resume=True,
    )  # fmt: skip
    rows: list[str] = []
    matrices = {}
    for category in categories:
        folder = options.work / "model" / category
        rows, matrices[category] = category_scores(folder, options.data, category)
        print(category, flush=True)
    tables = {one: table(rows, [matrix]) for one, matrix in matrices.items()}
    tables["mean"] = table(rows, [*matrices.values()])
    print(f"{'image AUROC (minus knn)':<40}" + "".join(f"{one[:14]:>16}" for one in tables))
    for row in rows:
        cells = [
            f"{t[row]['image_auroc']:.3f} ({t[row]['minus_knn']:+.3f})" for t in tables.values()
        ]
        print(f"{row:<40}" + "".join(f"{cell:>16}" for cell in cells))
    if options.out is not None:
        figures = {
            f"image_auroc {row}": {
                "ours": found["image_auroc"],
                "peer": tables["mean"][rows[0]]["image_auroc"],
                "peer_name": "nearest neighbours on the same features",
                "ratio": found["image_auroc"] / tables["mean"][rows[0]]["image_auroc"],
                "unit": "1",
            }
            for row, found in tables["mean"].items()
        }
        write_json(
            options.out,
            result({"figures": figures, "checks": {"tables": tables}}, device="cpu", seed=0),
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
