"""The presets of UniAD, by the names of the others."""

import dataclasses

from lafite_core.config import (
    FeatureConfig,
    LafiteConfig,
    ScoreConfig,
    TrainConfig,
    UniadConfig,
)
from lafite_core.errors import LafiteError


def uniad_preset(name: str) -> LafiteConfig:
    """The configuration ``cpu``, ``paper`` or ``demo``.

    ``paper`` is what You et al. (2022) publish, for a GPU: its features (raw, bilinear, grid of
    14), its network, its training (the last weights, not their average) and its score (errors
    as they are, no Gaussian).

    ``cpu`` has the same features and score, and half of the width: 250 normals train within ten
    minutes on two cores. It has no dropout, which takes a third of the time and keeps cores from
    sharing a batch, in passes of 4 images; overfitting is no concern of 1200 steps. A call that
    scores has one map, as many as a thread works on at full speed. ``demo`` is smaller still, on
    the built-in filter bank.

    All compute in float32: raw channels differ so much in size that 16 bits would round the large
    ones by more than the small ones are.

    Raises:
        LafiteError: there is no such preset.
    """
    features = FeatureConfig(resize="bilinear", normalise="none")
    score = ScoreConfig(sigma=0.0, standardise="none", precision="float32")
    if name == "paper":
        train = TrainConfig(
            epochs=1000, min_steps=0, batch_size=8, learning_rate=1e-4, weight_decay=1e-4,
            clip_norm=0.1, ema_decay=0.0, precision="float32",
        )  # fmt: skip
        return LafiteConfig(features=features, train=train, score=score)
    small = UniadConfig(width=128, heads=4, feedforward=512, dropout=0.0)
    train = TrainConfig(
        epochs=40, min_steps=1200, batch_size=8, clip_norm=0.1, micro_batch=4, precision="float32"
    )
    score = dataclasses.replace(score, batch_size=1)
    if name == "cpu":
        return LafiteConfig(features=features, uniad=small, train=train, score=score)
    if name == "demo":
        return LafiteConfig(
            features=dataclasses.replace(features, backbone="filterbank", image_size=192, grid=16),
            uniad=dataclasses.replace(small, width=64, encoder_layers=2, decoder_layers=2),
            train=dataclasses.replace(train, epochs=60, min_steps=0, learning_rate=1e-3),
            score=score,
        )
    raise LafiteError(f"There is no preset {name!r}; the presets are cpu, paper and demo.")
