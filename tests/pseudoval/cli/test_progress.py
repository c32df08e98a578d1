"""Plain progress lines, and the time that is left."""

import pytest

from pseudoval import progress
from pseudoval.progress import Progress, labelled, time_left


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that the test sets."""
    now = [1000.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_time_left_is_from_our_own_speed(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    """Taken up at 37 of 100: 37 epochs in no time must not make the rest look short."""
    show = Progress()
    show("training, loss 0.5000", 37, 100)
    clock[0] += 60
    show("training, loss 0.2500", 40, 100)
    clock[0] += 5
    show("training, loss 0.2400", 41, 100)
    show("training, loss 0.1000", 100, 100)
    assert capsys.readouterr().err.splitlines() == [
        "training: 37/100 loss 0.5000",
        "training: 40/100 loss 0.2500, about 20 min left",
        "training: 100/100 loss 0.1000",
    ]


def test_every_bar_has_a_speed_of_its_own(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    show = Progress()
    show("features", 1, 3)
    clock[0] += 500
    show("features", 2, 3)
    show("core set", 10, 100)
    clock[0] += 10
    show("core set", 20, 100)
    lines = capsys.readouterr().err.splitlines()
    assert lines[1] == "features: 2/3, about 8 min left"
    assert lines[2:] == ["core set: 10/100", "core set: 20/100, about 80 s left"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "1 s"), (89, "89 s"), (91, "2 min"), (3600, "60 min"), (9000, "2.5 h")],
)
def test_durations_as_a_person_says_them(seconds: float, text: str) -> None:
    assert time_left(seconds) == f"about {text} left"


def test_labels(capsys: pytest.CaptureFixture[str]) -> None:
    calls: list[tuple[str, int, int]] = []
    labelled(lambda *call: calls.append(call), "seed-1")("training, loss 1", 2, 3)
    labelled(lambda *call: calls.append(call), "")("features", 1, 3)
    assert calls == [("seed-1 training, loss 1", 2, 3), ("features", 1, 3)]
