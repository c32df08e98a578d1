"""Score matrices: of images and configurations, or of what is missing in an earlier one."""

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pseudoval.data.dataset import ImageItem, data_sha256
from pseudoval.detectors import Detector
from pseudoval.errors import UserError
from pseudoval.metrics.score_matrix import Config, ScoreMatrix
from pseudoval.progress import ProgressCallback, silent
from pseudoval.scoring.blocks import Scoring, score_all
from pseudoval.scoring.pixels import add_pixel_figures
from pseudoval.tasks import ALONE, Workers


def score_images(
    detector: Detector,
    items: Sequence[ImageItem],
    configs: Sequence[Config],
    *,
    name: str,
    store: Path | None = None,
    workers: Workers = ALONE,
    progress: ProgressCallback = silent,
    pixels: bool = True,
) -> ScoreMatrix:
    """Scores of every image, and pixel metrics of every category, under every configuration.

    Args:
        name: what is being scored, for the progress display and the folder of the blocks.
        store: folder for finished blocks, taken up again by the next call; None keeps nothing.
        pixels: False leaves the pixel metrics out.

    Raises:
        UserError: an image cannot be read, or a configuration cannot be scored; and as
            ``run_tasks``.
    """
    with ExitStack() as stack:
        folder = store or Path(stack.enter_context(TemporaryDirectory()))
        one = Scoring(detector=detector, items=items, configs=configs, name=name, store=folder)
        (matrix,) = score_all([one], workers=workers, progress=progress)
        if not pixels:
            return matrix
        return add_pixel_figures(matrix, [one], workers=workers, progress=progress)


def score_missing(
    detector: Detector,
    items: Sequence[ImageItem],
    configs: Sequence[Config],
    known: ScoreMatrix | None,
    **options: Any,
) -> ScoreMatrix:
    """``score_images``, but for the configurations that are known already.

    Args:
        known: scores of the same images by the same detector, as ``known_scores`` finds them.
        options: of ``score_images``.
    """
    missing = [config for config in configs if known is None or config not in known.configs]
    parts = [] if known is None else [known]
    if missing:
        parts.append(score_images(detector, items, missing, **options))
    joined = ScoreMatrix.joined(parts)
    return joined.select([joined.row(config) for config in configs])


def known_scores(
    path: Path, items: Sequence[ImageItem], model_sha256: str, seed: int
) -> ScoreMatrix | None:
    """The matrix at ``path`` if it is of these images, this model and the noise of this seed."""
    try:
        header = (matrix := ScoreMatrix.load(path)).header
    except UserError:
        return None  # missing, or damaged: scored again
    wanted = {"data_sha256": data_sha256(items), "model_sha256": model_sha256, "seed": seed}
    return matrix if {name: header.get(name) for name in wanted} == wanted else None
