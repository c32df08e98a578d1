"""Training as tasks: features of some images, and each model."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pseudoval.data.dataset import require_unchanged
from pseudoval.detectors import ExtractsFeatures, TrainRequest, detector_class
from pseudoval.errors import UserError
from pseudoval.models.one_model import fit_one
from pseudoval.models.settings import find_device
from pseudoval.progress import silent
from pseudoval.tasks import SharedFolder, Workers, run_tasks, shared

IMAGES = 32
"""Images whose features are one task: some seconds on a core, so that handing out costs little."""


def fit_on_workers(request: TrainRequest, models: Sequence[TrainRequest], workers: Workers) -> None:
    """Train each of some models on a worker, after their features.

    Args:
        request: for all of the models, in folders that are ready for them.

    Raises:
        UserError: a worker does not see the folders; and as ``run_tasks``.
    """
    with shared(request.out) as place:
        if request.cache is not None:  # else each model has features of its own alone
            _extract(request, place, workers)
        done = 0

        def keep(task: FitModel, result: None) -> None:
            nonlocal done
            done += 1
            request.progress("models", done, len(models))

        tasks = [FitModel(request=_travelling(one), place=place) for one in models]
        run_tasks(tasks, workers.executor, keep, kinds=workers.kinds)
    if (difference := workers.difference()) and request.notice is not None:
        request.notice(difference)


def _extract(request: TrainRequest, place: SharedFolder, workers: Workers) -> None:
    """Put the features of all images into the cache, where every model finds them."""
    if not issubclass(detector_class(request.detector), ExtractsFeatures):
        return
    sent = replace(_travelling(request), images={})
    files = [(path.absolute(), sha256) for path, sha256 in request.files()]
    done = 0

    def keep(task: ExtractFeatures, result: None) -> None:
        nonlocal done
        done += len(task.files)
        request.progress("features", done, len(files))

    tasks = (
        ExtractFeatures(request=sent, place=place, files=files[start : start + IMAGES])
        for start in range(0, len(files), IMAGES)
    )
    run_tasks(tasks, workers.executor, keep, kinds=workers.kinds)


@dataclass(frozen=True, kw_only=True)
class ExtractFeatures:
    """The task of putting the features of some images into the cache."""

    request: TrainRequest
    place: SharedFolder
    files: Sequence[tuple[Path, str]]

    def __str__(self) -> str:
        return f"Extracting features of {', '.join(str(path) for path, _ in self.files)}"

    def run(self) -> None:
        """See ``ExtractsFeatures.extract``."""
        _require_here(self.place)
        require_unchanged(self.files)
        request = replace(self.request, device=find_device(self.request.device))
        extracting = detector_class(request.detector)
        assert issubclass(extracting, ExtractsFeatures)
        extracting.extract(request, self.files)


@dataclass(frozen=True, kw_only=True)
class FitModel:
    """The task of training a model; a training that was lost is gone on with at its checkpoint."""

    request: TrainRequest
    place: SharedFolder

    def __str__(self) -> str:
        return f"Training {self.request.out}"

    def run(self) -> None:
        """See ``fit_one``."""
        _require_here(self.place)
        require_unchanged(self.request.files())
        fit_one(replace(self.request, device=find_device(self.request.device)))


def _travelling(request: TrainRequest) -> TrainRequest:
    """A request that is understood in another process: absolute paths, nobody to report to."""
    images = {
        category: [(path.absolute(), sha256) for path, sha256 in files]
        for category, files in request.images.items()
    }
    cache = request.cache and request.cache.absolute()
    return replace(
        request, out=request.out.absolute(), images=images, pairs={}, cache=cache,
        progress=silent, notice=None,
    )  # fmt: skip


def _require_here(place: SharedFolder) -> None:
    if not place.is_here():
        raise UserError(
            f"A worker does not see {place.folder}: a model is trained on a disk that all workers "
            "share, so that another can go on with it. Give an --out there."
        )
