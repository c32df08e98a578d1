"""The nearest-neighbour detector that says how hard a pseudo set is."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from lafite_core import sweep
from lafite_core.backbones import make_backbone, state_sha256
from lafite_core.config import preset
from lafite_core.fit import FitRequest, fit
from lafite_core.model import LafiteModel
from lafite_core.parallel import on_each_core
from pseudoval.data.dataset import ImageItem
from pseudoval.data.images import read_rgb
from pseudoval.detectors.features import FeatureModelDetector
from pseudoval.detectors.protocol import Detector
from pseudoval.errors import UserError
from pseudoval.progress import ProgressCallback, labelled

FILTER_BANK = "filterbank"
MOST_IMAGES = 256
"""Normals of a category in a bank that is built for the purpose; the greedy core set takes time
that grows with their square, and a few hundred images tell how hard a set is."""


@dataclasses.dataclass(frozen=True)
class NearestNeighbours:
    """Image scores by the distance to the nearest normal patch (K = 1).

    Attributes:
        models: by category.
        facts: JSON-able: where backbone and bank are from.
    """

    models: Mapping[str, LafiteModel]
    facts: Mapping[str, Any]

    def score(self, item: ImageItem) -> float:
        """The score of an image of a known category; higher is more anomalous."""
        model = self.models[item.category]
        errors = sweep.knn_errors(model, [read_rgb(item.path)], [1])
        return float(sweep.scores(model, errors).item())


def reference_of_model(
    detector: Detector, folder: Path, categories: Sequence[str], split_sha256: str
) -> NearestNeighbours:
    """With the backbone, the bank and the train normals of a detector.

    Args:
        folder: the MODEL that it is from, for errors.

    Raises:
        UserError: trained on another split or a refit, lacking a category, or without a bank.
    """
    if detector.split_sha256 != split_sha256:
        what = (
            "a refitted model, whose bank holds the set's own normals"
            if detector.split_sha256 is None
            else "a model that was trained on another split than the set's"
        )
        raise UserError(
            f"{folder} is {what}; give the model that was trained with this pseudo set."
        )
    models: dict[str, LafiteModel] = {}
    for category in categories:
        if category not in detector.categories:
            raise UserError(
                f"{folder} was not trained on category {category!r} of the set, but on "
                f"{', '.join(detector.categories)}; give the model that belongs to the set."
            )
        member = detector.of(category)
        if not isinstance(member, FeatureModelDetector):
            raise UserError(
                f"{folder} holds the detector {detector.name}, which has no memory bank; leave "
                "--model out."
            )
        models[category] = member.model
    first = next(iter(models.values()))
    return NearestNeighbours(
        models,
        {
            "from": "model",
            "backbone": first.config.features.backbone,
            "model_sha256": detector.model_sha256,
            "k": 1,
        },
    )


def reference_of_normals(
    normals: Mapping[str, Sequence[ImageItem]],
    *,
    backbone: str,
    weights: Path | None,
    device: str,
    progress: ProgressCallback,
) -> NearestNeighbours:
    """With a bank of its own for each category, built from the normals that were not held out.

    Features and core set are those of the presets (``demo`` for the built-in filter bank, ``cpu``
    for others), with core sets drawn from seed 0.

    Args:
        normals: by category; the ``MOST_IMAGES`` with the smallest hashes are taken.
        weights: safetensors file of the backbone; without it timm downloads them.

    Raises:
        LafiteError: an unknown backbone, or weights of another one.
    """
    config = preset("demo" if backbone == FILTER_BANK else "cpu")
    config = dataclasses.replace(
        config, features=dataclasses.replace(config.features, backbone=backbone)
    )
    network = make_backbone(config.features, weights)
    models: dict[str, LafiteModel] = {}
    for category, items in normals.items():
        taken = sorted(items, key=lambda item: item.sha256)[:MOST_IMAGES]
        with TemporaryDirectory() as folder:
            request = FitRequest(
                keys=[item.sha256 for item in taken],
                config=config,
                backbone=network,
                folder=Path(folder),
                seed=0,
                network=None,
                device=device,
                progress=labelled(progress, category),
            )
            images = on_each_core(read_rgb, [item.path for item in taken])
            models[category] = fit(images, request)
    pretrained = backbone != FILTER_BANK
    facts = {
        "from": "normals",
        "backbone": backbone,
        "weights_sha256": state_sha256(network.state_dict()) if pretrained else None,
        "images": {name: model.info["images"] for name, model in models.items()},
        "k": 1,
    }
    return NearestNeighbours(models, facts)
