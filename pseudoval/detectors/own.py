"""A detector of one's own: a class with ``parameters``, ``fit`` and ``score``, behind the protocol.

    class MyDetector:                        # importable as mymodule:MyDetector
        parameters = [Parameter("k", grid=(1, 5, 9), default=5),
                      Parameter("layers", grid=("2", "2,3"), needs_fit=True)]

        def fit(self, images, *, layers): ...
        def load(self, state): ...           # optional
        def score(self, loaded, image, *, k): ...

``fit`` gets a lazy sequence of uint8 RGB ``[H, W, 3]`` normals and the parameters that need a fit,
and returns a state, see ``pseudoval.detectors.states``. ``load`` makes of it what scoring needs,
once in a process; without it that is the state. ``score`` gives a number, an anomaly map ``[h, w]``
whose maximum is the number, or both as a pair; higher is more anomalous. ``score_many(loaded,
image, configurations)``, optional, gives a list of the same and may share work.

``self.seed`` and ``self.device`` are set before any of them is called, and the global random states
are seeded, for a score by the pixels of the image. On a CPU they compute on one thread, so that the
number of cores changes nothing; a fit may call ``torch.set_num_threads``. Every fit has an object
of its own, so that the state alone is handed on.
"""

import dataclasses
import inspect
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np
import torch

from lafite_core.parallel import single_threaded
from pseudoval.data.files import (
    FORMAT_VERSION,
    read_versioned,
    sha256_file,
    sha256_json,
    write_json,
)
from pseudoval.data.images import pixel_sha256, read_rgb
from pseudoval.detectors.banks import FITS
from pseudoval.detectors.base import MODEL, SingleModel, check_values, read_model_json
from pseudoval.detectors.own_class import calling, check_own_class, seeded
from pseudoval.detectors.protocol import Block, Detector, OpenRequest, TrainRequest, Value
from pseudoval.detectors.states import State, read_state, write_state
from pseudoval.errors import UserError
from pseudoval.metrics.score_matrix import Config, config_name

STATE = "state.safetensors"
IMAGES = "train_images.json"
"""Path, relative to MODEL, and SHA-256 of every image that it was fitted on."""

MAP_SIDE = 256
COARSE_SIDE = 64
"""Side of the maps that are kept of each image and configuration: 16 KiB a map."""


class Images(Sequence[np.ndarray]):
    """Images that are read when they are asked for, uint8 RGB ``[H, W, 3]``."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = list(paths)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return Images(self.paths[index])
        return read_rgb(self.paths[index])

    def __iter__(self) -> Iterator[np.ndarray]:
        return map(read_rgb, self.paths)


class OwnDetector(SingleModel):
    """The protocol around a class of somebody's own; ``own_detector`` makes a subclass for it.

    Args:
        folder: MODEL.
        about: its ``model.json``.
        seed: of the noise.
    """

    configurable: ClassVar[bool] = False
    own: ClassVar[type[Any]]

    def __init__(self, folder: Path, about: Mapping[str, Any], *, seed: int, device: str) -> None:
        info = about["info"]
        self._known_maps: bool | None = info.get("has_maps")  # not known until it has scored
        side = None if self._known_maps is False else MAP_SIDE
        super().__init__(info, seed=seed, model_sha256=about["model_sha256"], map_side=side)
        self.folder = folder
        self.device = device
        self.fit_seed = int(about["seed"])
        self.values: dict[str, Value] = dict(info["values"])
        self.parameters = tuple(
            dataclasses.replace(p, default=self.values.get(p.name, p.default))
            for p in self.parameters
        )
        self._loaded: dict[str, tuple[Any, Any]] = {}

    @classmethod
    def train(cls, request: TrainRequest, info: Mapping[str, Any]) -> None:
        """See ``TrainedDetector``. A refit is fitted with the values that were chosen.

        An image is scored before the model is finished, to know whether there are maps. Where that
        fails the state is kept, and a training that is resumed goes on from there.
        """
        values = cls._trained_values(request)
        if request.group.leads:
            files, seed = request.files(), request.seeds[0]
            images = [[os.path.relpath(path, request.out), sha256] for path, sha256 in files]
            about = {"values": values, "seed": seed, "images": [sha256 for _, sha256 in files]}
            if not _holds(request.out / STATE, about):
                state = cls.fitted([path for path, _ in files], values, seed, request.device)
                write_state(request.out / STATE, state, about, f"{cls.name}.fit")
            state_sha256 = sha256_file(request.out / STATE)
            listed = {"format_version": FORMAT_VERSION, "images": images}
            write_json(request.out / IMAGES, listed)
            content: dict[str, Any] = {
                "format_version": FORMAT_VERSION,
                "config": None,
                "seed": seed,
                "model_sha256": cls._sha256(values, seed, images, state_sha256),
                "info": {**info, "images": len(files), "values": values},
            }
            content["info"]["has_maps"] = cls._tried(request, content)
            write_json(request.out / MODEL, content)
        request.group.wait()

    @classmethod
    def _tried(cls, request: TrainRequest, about: Mapping[str, Any]) -> bool:
        """Score an image and the pairs; a notice if scores fall. Returns whether there are maps."""
        tried = cls(request.out, about, seed=request.seeds[0], device=request.device)
        block = tried.score_block([read_rgb(request.files()[0][0])], [tried.defaults])
        pairs = [pair for category in request.images for pair in request.pairs.get(category, ())]
        above = tried.rising(pairs)
        if request.notice is not None and 2 * above < len(pairs):
            request.notice(
                f"Scores of {cls.name} may fall with anomaly: {above} of {len(pairs)} anomalies of "
                "the pseudo set score above their normal. Higher must be more anomalous."
            )
        return block.coarse is not None

    def rising(self, pairs: Sequence[tuple[Path, Path]]) -> int:
        """How many anomalies score above the normal that they were made of, at the defaults.

        Args:
            pairs: files of a normal and an anomaly.
        """
        above = 0
        for pair in pairs:
            normal, anomaly = self.score_block([*map(read_rgb, pair)], [self.defaults]).scores[0]
            above += bool(anomaly > normal)
        return above

    @classmethod
    def open(cls, request: OpenRequest) -> Detector:
        """See ``TrainedDetector``."""
        folder = request.folder
        about = read_model_json(folder)
        missing = [name for name in (STATE, IMAGES) if not (folder / name).exists()]
        if missing:
            raise UserError(f"{folder} has no {missing[0]}, which belongs to it; train again.")
        images = read_versioned(folder / IMAGES, "The list of training images")["images"]
        state = sha256_file(folder / STATE)
        values, seed = about["info"].get("values"), about["seed"]
        if cls._sha256(values, seed, images, state) != about["model_sha256"]:
            raise UserError(
                f"The model in {folder} does not match its hash: a file was changed. Train it "
                "again or restore it."
            )
        return cls(folder, about, seed=request.seed, device=request.device)

    @classmethod
    def _trained_values(cls, request: TrainRequest) -> dict[str, Value]:
        """The values of the parameters that need a fit, those that a refit was chosen with first.

        Raises:
            UserError: one that there is not, or a value that it cannot have.
        """
        fitted = [parameter for parameter in cls.parameters if parameter.needs_fit]
        chosen = request.refit["params"] if request.refit is not None else {}
        found = {p.name: chosen.get(p.name, request.values.get(p.name, p.default)) for p in fitted}
        check_values(fitted, found)
        return found

    @classmethod
    def _sha256(cls, values: Any, seed: int, images: Sequence[Any], state: str) -> str:
        """Hash of a model: also of the images, for what is fitted later is fitted on them."""
        of_images = [sha256 for _, sha256 in images]
        return sha256_json([cls.name, values, seed, of_images, state])

    @classmethod
    def _object(cls, seed: int, device: str) -> Any:
        """A new object of the class."""
        made = calling(f"{cls.name}()", cls.own)
        made.seed, made.device = seed, device
        return made

    @classmethod
    def fitted(
        cls, paths: Sequence[Path], values: Mapping[str, Value], seed: int, device: str
    ) -> State:
        """The state of a fit, as the class returns it."""
        made = cls._object(seed, device)
        with seeded(device, seed), single_threaded(device):
            state: State = calling(f"{cls.name}.fit", made.fit, Images(paths), **values)
        return state

    @property
    def defaults(self) -> dict[str, Value]:
        """The configuration of the defaults, with the values that the model was fitted with."""
        return {parameter.name: parameter.default for parameter in self.parameters}

    def fit_of(self, config: Config) -> dict[str, Value]:
        """The values that a configuration needs a fit with; what it leaves out is the model's."""
        return {name: config.get(name, value) for name, value in self.values.items()}

    def unfitted(self, configs: Sequence[Config]) -> list[Config]:
        """See ``FitsBanks``."""
        one_of_each = {sha256_json(self.fit_of(config)): config for config in configs}
        return [
            config
            for config in one_of_each.values()
            if self.fit_of(config) != self.values and not self._path(self.fit_of(config)).exists()
        ]

    def fit_bank(self, config: Config) -> None:
        """See ``FitsBanks``."""
        self._state(self.fit_of(config))

    def _path(self, values: Mapping[str, Value]) -> Path:
        return self.folder / FITS / f"fit-{sha256_json(values)[:16]}.safetensors"

    def _state(self, values: Mapping[str, Value]) -> State:
        """The state for some values: the model's own, one in ``MODEL/fits``, or fitted now.

        Raises:
            UserError: a training image is gone, or another.
        """
        if values == self.values:
            return read_state(self.folder / STATE)[0]
        path, about = self._path(values), {"model": self.model_sha256, "values": dict(values)}
        if _holds(path, about):
            return read_state(path)[0]
        self.check({**self.defaults, **values})
        state = self.fitted(self.train_files, values, self.fit_seed, self.device)
        with suppress(OSError):  # a MODEL that is read only costs the fit again next time
            write_state(path, state, about, f"{self.name}.fit")
        return state

    def check(self, config: Config) -> None:
        """See ``Detector``; another fit needs the images that the model was fitted on."""
        super().check(config)
        if self.unfitted([config]) and self._lost is not None:
            raise UserError(
                f"{config_name(self.fit_of(config))} needs a fit, and the training image "
                f"{self._lost} is gone or another by now; put it back, or train {self.name} again."
            )

    @cached_property
    def _train_images(self) -> list[tuple[Path, str]]:
        """File and SHA-256 of the images that the model was fitted on."""
        images = read_versioned(self.folder / IMAGES, "The list of training images")["images"]
        return [(Path(os.path.normpath(self.folder / name)), sha256) for name, sha256 in images]

    @property
    def train_files(self) -> list[Path]:
        """The files of these images."""
        return [path for path, _ in self._train_images]

    @cached_property
    def _lost(self) -> Path | None:
        """One of them that is not there as it was; None if all are."""
        for path, sha256 in self._train_images:
            if not path.is_file() or sha256_file(path) != sha256:
                return path
        return None

    def _ready(self, values: Mapping[str, Value]) -> tuple[Any, Any]:
        """An object and what it has loaded for some values, once in a process."""
        if sha256_json(values) not in self._loaded:
            self.take(values, self._state(values))
        return self._loaded[sha256_json(values)]

    def take(self, values: Mapping[str, Value], state: State) -> None:
        """Score with a state from now on, for configurations with these values."""
        made = self._object(self.seed, self.device)
        loaded: Any = state
        if hasattr(made, "load"):
            with seeded(self.device, self.seed), single_threaded(self.device):
                loaded = calling(f"{self.name}.load", made.load, state)
        self._loaded[sha256_json(values)] = made, loaded

    def score_block(self, images: Sequence[np.ndarray], configs: Sequence[Config]) -> Block:
        """See ``Detector``; one image after another, on one thread."""
        fits = [self.fit_of(config) for config in configs]
        scores = np.empty((len(configs), len(images)))
        maps: list[list[np.ndarray | None]] = [[None] * len(images) for _ in configs]
        for one in {sha256_json(values): values for values in fits}.values():
            rows = [row for row, other in enumerate(fits) if other == one]
            asked = [
                {name: value for name, value in configs[row].items() if name not in one}
                for row in rows
            ]
            made, loaded = self._ready(one)
            with single_threaded(self.device):
                for column, image in enumerate(images):
                    found = self._scored(made, loaded, image, asked)
                    for row, value in zip(rows, found, strict=True):
                        scores[row, column], maps[row][column] = self._result(value)
        return Block(scores=scores, coarse=self._stacked(maps))

    def _scored(
        self, made: Any, loaded: Any, image: np.ndarray, configs: Sequence[Config]
    ) -> list[Any]:
        """What the class says of an image under each configuration."""
        key = self.seed, int(pixel_sha256(image)[:16], 16)
        if hasattr(made, "score_many"):
            what = f"{self.name}.score_many"
            with seeded(self.device, *key):
                asked = [dict(config) for config in configs]
                found = calling(what, made.score_many, loaded, image.copy(), asked)
            if not isinstance(found, list | tuple) or len(found) != len(configs):
                raise UserError(
                    f"{what} returned {_shape(found)} for {len(configs)} configurations; it must "
                    "return a list with a result for each."
                )
            return list(found)
        found = []
        for config in configs:
            with seeded(self.device, *key):
                found.append(
                    calling(f"{self.name}.score", made.score, loaded, image.copy(), **config)
                )
        return found

    def _result(self, value: Any) -> tuple[float, np.ndarray | None]:
        """Score, and coarse map float32 if there is one."""
        pair = value if isinstance(value, tuple) and len(value) == 2 else (None, value)
        number, found = (None if one is None else _array(one) for one in pair)
        if found is not None and found.ndim == 0 and number is None:
            return float(found), None
        if found is None or found.ndim != 2 or not found.size or (
            number is not None and number.ndim
        ):  # fmt: skip
            raise UserError(
                f"{self.name} scored an image with {_shape(value)}; it must return a number, an "
                "anomaly map [h, w], or both as (number, map)."
            )
        smaller = found.shape[0] > COARSE_SIDE or found.shape[1] > COARSE_SIDE
        way = cv2.INTER_AREA if smaller else cv2.INTER_LINEAR
        coarse = cv2.resize(found.astype(np.float32), (COARSE_SIDE, COARSE_SIDE), interpolation=way)
        return float(found.max() if number is None else number), coarse

    def _stacked(self, maps: Sequence[Sequence[np.ndarray | None]]) -> np.ndarray | None:
        """Maps ``[configs, images, h, w]``; None where the class gives numbers alone."""
        found = [one for row in maps for one in row if one is not None]
        if not found and not self._known_maps:
            return None
        if len(found) < len(maps) * len(maps[0]) or self._known_maps is False:
            raise UserError(
                f"{self.name} gives a number for some images or configurations and a map for "
                "others; give one of them always, or both."
            )
        return np.stack(found).reshape(len(maps), len(maps[0]), *found[0].shape)

    def provenance(self) -> dict[str, Any]:
        """See ``Detector``; what another version of the code has scored is not taken up."""
        code = None
        with suppress(TypeError, OSError):
            code = sha256_file(Path(inspect.getfile(self.own)))
        return {**super().provenance(), "code_sha256": code}


def _holds(path: Path, about: Mapping[str, Any]) -> bool:
    """Whether a file is a whole state of which that was written."""
    with suppress(UserError):
        return read_state(path)[1] == about
    return False


def own_detector(name: str, own: type) -> type[OwnDetector]:
    """The class of the protocol for a class of somebody's own.

    Raises:
        UserError: what that lacks.
    """
    check_own_class(name, own)
    inside = {"name": name, "own": own, "parameters": tuple(own.parameters)}  # type: ignore[attr-defined]
    return type(own.__name__, (OwnDetector,), inside)


def _array(value: Any) -> np.ndarray:
    """A result as an array of float64; of one dimension more than allowed if it is no number."""
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu().double().numpy()
    try:
        return np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        return np.empty((0, 0, 0))


def _shape(value: Any) -> str:
    if isinstance(value, torch.Tensor | np.ndarray):
        return f"an array of shape {tuple(value.shape)}"
    if isinstance(value, list | tuple):
        return f"a {type(value).__name__} of {len(value)}"
    return f"a value of type {type(value).__name__}"
