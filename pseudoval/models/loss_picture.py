"""``MODEL/loss.png``: the training loss, for a glance at whether it has levelled off."""

import math
from collections.abc import Sequence
from pathlib import Path

from pseudoval.data.files import atomic_path


def write_loss_picture(path: Path, losses: Sequence[float], drop_after: float) -> None:
    """Draw the mean loss of every epoch on a logarithmic axis; the same losses, the same bytes.

    Args:
        losses: one per epoch, above 0.
        drop_after: share of the training after which the learning rate drops; 1 or more is never.
    """
    # matplotlib takes half a second to import, and most commands draw nothing.
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, StrMethodFormatter

    figure = Figure(figsize=(6.4, 3.6), layout="constrained")
    axes = figure.subplots()
    epochs = range(1, len(losses) + 1)
    axes.plot(
        epochs, losses, color="#1f5a94", linewidth=1.4, marker="." if len(losses) < 20 else ""
    )
    axes.set(yscale="log", xlabel="epoch", ylabel="mean loss of the epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.grid(visible=True, which="both", color="#dddddd", linewidth=0.6)
    drop = math.ceil(drop_after * len(losses))
    if drop < len(losses):
        axes.axvline(
            drop + 0.5, color="#b3541e", linestyle="--", linewidth=1, label="learning rate drops"
        )
        axes.legend(loc="upper right", fontsize=8)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=120, metadata={"Software": None})
