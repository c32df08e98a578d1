"""The score matrix: what detectors hand over and everything downstream is computed from."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pseudoval.data.files import FORMAT_VERSION, read_npz, write_npz
from pseudoval.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

Config = Mapping[str, float | str]
"""One configuration of a detector, such as ``{"t": 200, "k": 5}``; ``k = 0`` means no editing."""

IMAGE_COLUMNS = ("image", "category", "label", "group")
PIXEL_METRICS = ("pixel_auroc", "pixel_ap", "pixel_aupro")


@dataclass(frozen=True, kw_only=True)
class ScoreMatrix:
    """Image scores of every configuration, with what is needed to judge them.

    Attributes:
        scores: ``[configs, images]`` float64, higher is more anomalous.
        configs: one mapping per row.
        images: id of each image, a relative POSIX path.
        categories: category of each image.
        labels: ``[images]`` int64, 0 normal and 1 anomalous.
        groups: id of the normal image under each image; a pseudo anomaly and the normal that it
            was pasted on share one. Resampling takes whole groups.
        pixel: for each name in ``PIXEL_METRICS`` an array ``[configs, category_names]`` in
            [0, 1], NaN where there are no masks. Empty if nothing is known about pixels.
        pixel_reason: per category why its pixel figures are NaN, "" where they are not.
        header: JSON-able provenance: seed, detector, model and data hashes.
    """

    scores: np.ndarray
    configs: list[dict[str, float | str]]
    images: list[str]
    categories: list[str]
    labels: np.ndarray
    groups: list[str]
    pixel: dict[str, np.ndarray] = field(default_factory=dict)
    pixel_reason: list[str] = field(default_factory=list)
    header: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        expected = (len(self.configs), len(self.images))
        if self.scores.shape != expected:
            raise ValueError(f"scores have shape {self.scores.shape}, expected {expected}")
        for name in ("categories", "labels", "groups"):
            if len(getattr(self, name)) != len(self.images):
                raise ValueError(f"{name} and images differ in length")
        cells = (len(self.configs), len(self.category_names))
        for name, values in self.pixel.items():
            if values.shape != cells:
                raise ValueError(f"{name} has shape {values.shape}, expected {cells}")

    @property
    def category_names(self) -> list[str]:
        """The distinct categories, sorted; the columns of the pixel arrays."""
        return sorted(set(self.categories))

    def row(self, config: Config) -> int:
        """Row of a configuration.

        Raises:
            KeyError: the configuration was not scored.
        """
        try:
            return self.configs.index(dict(config))
        except ValueError:
            raise KeyError(f"configuration {config_name(config)} was not scored") from None

    def select(self, rows: Sequence[int]) -> "ScoreMatrix":
        """The same images under a subset of the configurations."""
        return replace(
            self,
            scores=self.scores[list(rows)],
            configs=[self.configs[row] for row in rows],
            pixel={name: values[list(rows)] for name, values in self.pixel.items()},
        )

    @classmethod
    def joined(cls, parts: "Sequence[ScoreMatrix]") -> "ScoreMatrix":
        """The configurations of several matrices over the same images, one below the other.

        If one of them has pixel figures, those of the others are NaN where they are not known.
        """
        measured = next((part for part in parts if part.pixel), parts[0])
        unknown = [np.full((len(p.configs), len(p.category_names)), np.nan) for p in parts]
        return replace(
            measured,
            scores=np.concatenate([part.scores for part in parts]),
            configs=[config for part in parts for config in part.configs],
            pixel={
                name: np.concatenate(
                    [part.pixel.get(name, none) for part, none in zip(parts, unknown, strict=True)]
                )
                for name in measured.pixel
            },
        )

    def save(self, path: Path) -> None:
        """Write as npz without pickle, atomically; the same matrix gives the same bytes."""
        write_npz(
            path,
            {
                "scores": self.scores.astype(np.float64),
                "configs": np.array([json.dumps(c) for c in self.configs]),
                "images": np.array(self.images),
                "categories": np.array(self.categories),
                "labels": np.asarray(self.labels, dtype=np.int64),
                "groups": np.array(self.groups),
                "category_names": np.array(self.category_names),
                "pixel_reason": np.array(self.pixel_reason, dtype=np.str_),
                **self.pixel,
                "header": np.array(
                    json.dumps({"format_version": FORMAT_VERSION, **self.header}, sort_keys=True)
                ),
            },
        )

    @classmethod
    def load(cls, path: Path) -> "ScoreMatrix":
        """Read what ``save`` wrote.

        Raises:
            UserError: the file is missing, damaged or of another format.
        """
        arrays = read_npz(path, "The score matrix")
        try:
            header = json.loads(str(arrays["header"]))
            version = header.pop("format_version")
            if version != FORMAT_VERSION:
                raise UserError(
                    f"{path} has score-matrix format {version}; this version reads "
                    f"{FORMAT_VERSION}. Score again with this version."
                )
            return cls(
                scores=arrays["scores"],
                configs=[json.loads(str(text)) for text in arrays["configs"]],
                images=[str(name) for name in arrays["images"]],
                categories=[str(name) for name in arrays["categories"]],
                labels=arrays["labels"],
                groups=[str(name) for name in arrays["groups"]],
                pixel={name: arrays[name] for name in PIXEL_METRICS if name in arrays},
                pixel_reason=[str(text) for text in arrays["pixel_reason"]],
                header=header,
            )
        except (KeyError, ValueError) as error:
            raise UserError(f"{path} is not a score matrix of pseudoval: {error}.") from None

    @classmethod
    def read_csv(cls, path: Path) -> "ScoreMatrix":
        """Read ``image, category, label[, group]`` and one score column per configuration.

        A header such as ``t=200;k=5`` becomes that configuration; a column with any other
        unique name becomes ``{"name": header}``.

        Raises:
            UserError: columns missing or repeated, an image twice, a label other than 0 and 1, a
                score that is not a finite number, or no score column at all.
        """
        import pandas as pd  # takes a second, which commands without a table need not wait

        try:
            table = pd.read_csv(path, header=None, dtype=str, keep_default_na=False)
        except FileNotFoundError:
            raise UserError(f"There is no score file at {path}.") from None
        except (OSError, ValueError) as error:
            raise UserError(f"{path} is not a CSV file of scores: {error}.") from None
        table = table[1:].set_axis(table.iloc[0].str.strip(), axis=1)  # row i is line i + 1
        _check_rows(table, path)
        columns = [name for name in table if name not in IMAGE_COLUMNS]
        numbers = table[columns].apply(pd.to_numeric, errors="coerce")
        wrong = ~np.isfinite(numbers.to_numpy(dtype=np.float64))
        if wrong.any():
            column = int(wrong.any(axis=0).argmax())
            line = table.index[wrong[:, column]][0] + 1
            raise UserError(
                f"{path}: column {columns[column]!r}, line {line} is not a finite number."
            )
        return cls(
            scores=numbers.to_numpy(dtype=np.float64).T.copy(),
            configs=[parse_config(name) for name in columns],
            images=table["image"].tolist(),
            categories=table["category"].tolist(),
            labels=table["label"].astype(np.int64).to_numpy(),
            groups=table["group" if "group" in table else "image"].tolist(),
            header={"source": path.name},
        )


def _check_rows(table: "pd.DataFrame", path: Path) -> None:
    """Refuse a table of text without scores, or with images that are not told apart."""
    repeated = table.columns[table.columns.duplicated()]
    if len(repeated):
        raise UserError(f"{path}: column {repeated[0]!r} occurs twice; rename one of them.")
    for name in ("image", "category", "label"):
        if name not in table:
            raise UserError(
                f"{path}: column {name!r} is missing; the columns are image, category, "
                "label[, group] and one per configuration."
            )
    if table.columns.isin(IMAGE_COLUMNS).all() or table.empty:
        what = "row" if table.empty else "score column"
        raise UserError(f"{path}: there is no {what}; add at least one.")
    for name in ("image", "category"):
        blank = table.index[table[name].str.strip() == ""]
        if len(blank):
            raise UserError(f"{path}: line {blank[0] + 1} has no {name}; give it one.")
    twice = table["image"][table["image"].duplicated()]
    if len(twice):
        raise UserError(f"{path}: image {twice.iloc[0]!r} occurs twice; keep one row per image.")
    wrong = table["label"][~table["label"].isin(["0", "1"])]
    if len(wrong):
        raise UserError(f"{path}: label {wrong.iloc[0]!r} is neither 0 (normal) nor 1 (anomalous).")


def config_name(config: Config) -> str:
    """``{"t": 200, "k": 5}`` as ``t=200;k=5``, and ``{"name": "mine"}`` as ``mine``.

    Numbers have all their digits, so that different configurations have different names.
    """
    if set(config) == {"name"}:
        return str(config["name"])
    return ";".join(f"{name}={_digits(value)}" for name, value in config.items())


def _digits(value: float | str) -> str:
    whole = isinstance(value, float) and value.is_integer()
    return str(int(value) if whole else value)


def parse_config(text: str) -> dict[str, float | str]:
    """The inverse of ``config_name``: all ``key=number``, or else a plain name."""
    config: dict[str, float | str] = {}
    for part in text.split(";"):
        key, _, number = part.partition("=")
        try:
            value = float(number)
        except ValueError:
            return {"name": text}
        if not math.isfinite(value):
            return {"name": text}
        config[key.strip()] = int(value) if value.is_integer() else value
    return config
