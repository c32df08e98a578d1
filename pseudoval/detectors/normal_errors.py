"""What the errors of normal images are at every position of the grid, for each configuration."""

import dataclasses
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lafite_core.model import LafiteModel
from lafite_core.predictor import scoring_precision
from pseudoval.data.files import read_npz, sha256_json, write_npz
from pseudoval.detectors.banks import FITS, Fit, training_features
from pseudoval.errors import UserError
from pseudoval.metrics.score_matrix import Config

BLOCK = 16
"""Training images whose features are in memory at a time."""

Errors = Callable[[Tensor, Sequence[Config]], np.ndarray]
"""From raw features ``[n, C, h, w]`` of training images to their error grids
``[configs, n, h, w]``."""


class NormalErrors:
    """What image scores are made of: errors as they are, or standardised by those of training
    images, as ``score.standardise`` says.

    Mean and deviation of a configuration are measured when it is first scored and kept in
    ``MODEL/fits``, as banks are.

    Args:
        folder: MODEL, for the training features.
    """

    def __init__(self, model: LafiteModel, folder: Path) -> None:
        self.model = model
        self.folder = folder
        self._known: dict[str, np.ndarray] = {}
        precision = scoring_precision(model.config.score, model.device)
        self._about = {"model": model.sha256(), "precision": precision}

    @property
    def wanted(self) -> bool:
        """Whether errors are standardised at all."""
        switch = self.model.config.score.standardise
        return switch == "position" or (switch == "auto" and self.model.network is not None)

    def is_kept(self, fit: Fit, config: Config) -> bool:
        """Whether nothing has to be measured for a configuration, or its file is there."""
        return not self.wanted or self._path(self._key(fit, config)).exists()

    def standardised(
        self, errors: np.ndarray, fit: Fit, configs: Sequence[Config], measure: Errors
    ) -> np.ndarray:
        """Error grids ``[configs, images, h, w]`` in deviations from those of normal images.

        Args:
            measure: gives the errors of training images, those of the bank ``fit``.

        Raises:
            UserError: the training features are not in MODEL, or there are fewer than 2 images.
        """
        if not self.wanted:
            return errors
        scales = self.of(fit, configs, measure)[:, :, None]  # [configs, 2, 1, h, w]
        return (errors - scales[:, 0]) / scales[:, 1]

    def of(self, fit: Fit, configs: Sequence[Config], measure: Errors) -> np.ndarray:
        """Mean and deviation of each configuration, ``[configs, 2, h, w]`` float32."""
        keys = [self._key(fit, config) for config in configs]
        for key in keys:
            if key not in self._known and (found := self._read(key)) is not None:
                self._known[key] = found
        missing = [n for n, key in enumerate(keys) if key not in self._known]
        if missing:
            measured = self._measured([configs[number] for number in missing], measure)
            for number, scale in zip(missing, measured, strict=True):
                self._known[keys[number]] = scale
                self._write(keys[number], scale)
        return np.stack([self._known[key] for key in keys])

    def _measured(self, configs: Sequence[Config], measure: Errors) -> np.ndarray:
        options = self.model.config.score
        raw = training_features(self.folder)
        if len(raw) < 2:
            raise UserError(
                f"The model in {self.folder} was trained with a single image, and errors cannot be "
                "compared with those of others; use --set score.standardise=none."
            )
        count = min(len(raw), options.standardise_images)
        chosen = torch.linspace(0, len(raw) - 1, count).round().long()
        blocks = [measure(raw[rows], configs) for rows in chosen.split(BLOCK)]
        errors = np.concatenate(blocks, axis=1).astype(np.float64)  # [configs, count, h, w]
        variance = errors.var(axis=1, ddof=1)
        # Of few images a position may vary little by chance, and would outshine all others.
        shrunk = (variance + variance.mean(axis=(1, 2), keepdims=True)) / 2
        deviation = np.sqrt(shrunk).clip(np.finfo(np.float32).tiny)
        return np.stack([errors.mean(axis=1), deviation], axis=1).astype(np.float32)

    def _key(self, fit: Fit, config: Config) -> str:
        """What mean and deviation depend on."""
        fitted = ("keep", "stages", "epoch")
        values = {name: value for name, value in config.items() if name not in fitted}
        return sha256_json({**self._about, "fit": dataclasses.asdict(fit), "config": values})

    def _path(self, key: str) -> Path:
        return self.folder / FITS / f"normal-errors-{key[:16]}.npz"

    def _read(self, key: str) -> np.ndarray | None:
        path = self._path(key)
        with suppress(UserError, KeyError):  # damaged: measured again
            if path.exists():
                found = read_npz(path, "A file of normal errors")
                if str(found["key"]) == key:
                    return found["scale"]
        return None

    def _write(self, key: str, scale: np.ndarray) -> None:
        path = self._path(key)
        with suppress(OSError):  # a MODEL that is read only costs the measurement again
            path.parent.mkdir(exist_ok=True)
            write_npz(path, {"scale": scale, "key": np.array(key)})
