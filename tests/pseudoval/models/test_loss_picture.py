from pathlib import Path

import matplotlib.figure
import pytest

from pseudoval.data.images import read_rgb
from pseudoval.models.loss_picture import write_loss_picture

LOSSES = [1.0 / (1 + epoch) for epoch in range(20)]


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[matplotlib.figure.Figure]:
    """The figures that are saved."""
    figures = []
    honest = matplotlib.figure.Figure.savefig

    def kept(figure, *arguments, **options):  # type: ignore[no-untyped-def]
        figures.append(figure)
        honest(figure, *arguments, **options)

    monkeypatch.setattr(matplotlib.figure.Figure, "savefig", kept)
    return figures


def test_every_loss_is_drawn_and_the_drop_is_marked(
    tmp_path: Path, drawn: list[matplotlib.figure.Figure]
) -> None:
    write_loss_picture(tmp_path / "loss.png", LOSSES, 0.8)
    (axes,) = drawn[0].axes
    curve, drop = axes.lines
    assert curve.get_ydata().tolist() == LOSSES
    assert list(curve.get_xdata()) == list(range(1, 21))
    assert axes.get_yscale() == "log"
    assert drop.get_xdata()[0] == 16.5, "epochs 17 to 20 are trained at the lower rate"
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["learning rate drops"]
    assert read_rgb(tmp_path / "loss.png").shape[0] > 300


def test_no_drop_no_mark(tmp_path: Path, drawn: list[matplotlib.figure.Figure]) -> None:
    for share in (1.0, 0.99):
        write_loss_picture(tmp_path / "loss.png", LOSSES, share)
        assert len(drawn[-1].axes[0].lines) == 1


def test_same_losses_same_bytes(tmp_path: Path) -> None:
    for name, losses in (("a", LOSSES), ("b", LOSSES), ("c", LOSSES[:5])):
        write_loss_picture(tmp_path / f"{name}.png", losses, 0.8)
    a, b, c = ((tmp_path / f"{name}.png").read_bytes() for name in "abc")
    assert a == b != c
