"""What has to be fitted before some configurations can be scored, shared out between workers."""

from collections.abc import Sequence
from dataclasses import dataclass

from pseudoval.detectors import Detector, FitsBanks
from pseudoval.metrics.score_matrix import Config
from pseudoval.models.source import Judges
from pseudoval.progress import ProgressCallback
from pseudoval.tasks import Workers, run_tasks


@dataclass(frozen=True, kw_only=True)
class FitBank:
    """The task of fitting what a configuration needs, into MODEL."""

    judges: Judges
    category: str
    config: Config

    def __str__(self) -> str:
        return f"Fitting what {dict(self.config)} needs for {self.category}"

    def run(self) -> None:
        """See ``FitsBanks.fit_bank``."""
        judge = self.judges.of(self.category)
        assert isinstance(judge, FitsBanks)
        judge.fit_bank(self.config)


def fit_banks(
    detectors: Sequence[Detector],
    configs: Sequence[Config],
    workers: Workers,
    progress: ProgressCallback,
) -> None:
    """Have fitted what is not in MODEL yet, each once: banks, then what is measured with them.

    A process that works alone fits a bank when it first needs it; several would all fit the same.
    """
    if workers.executor is None:
        return
    known: dict[tuple[str, str], FitBank] = {}
    done = 0

    def keep(task: FitBank, result: None) -> None:
        nonlocal done
        done += 1
        progress("fits", done, len(known))

    for _ in range(2):
        found = _unfitted(detectors, configs)
        tasks = [found[key] for key in found if key not in known]  # MODEL may be read only
        known |= found
        run_tasks(tasks, workers.executor, keep, kinds=workers.kinds)


def _unfitted(
    detectors: Sequence[Detector], configs: Sequence[Config]
) -> dict[tuple[str, str], FitBank]:
    """A task for each thing that can be fitted now, by model and configuration."""
    tasks: dict[tuple[str, str], FitBank] = {}
    for detector in detectors:
        for category in detector.categories:
            judge = detector.of(category)
            for config in judge.unfitted(configs) if isinstance(judge, FitsBanks) else ():
                task = FitBank(
                    judges=Judges.among(detector, [category]), category=category, config=config
                )
                tasks.setdefault((judge.model_sha256, str(dict(config))), task)
    return tasks
