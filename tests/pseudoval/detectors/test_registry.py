"""Every detector of the table, and those that other packages announce."""

from importlib.metadata import EntryPoint

import pytest

from pseudoval.cli.commands import run
from pseudoval.detectors import DETECTORS, ENTRY_POINTS, detector_class
from pseudoval.errors import UserError


@pytest.mark.parametrize("name", DETECTORS)
def test_a_row_names_a_class_that_exists(name: str) -> None:
    assert detector_class(name).name == name


def test_an_unknown_detector_is_refused() -> None:
    with pytest.raises(UserError, match=r"'nearest'.*lafite, uniad, knn, mvg"):
        detector_class("nearest")


def test_a_package_announces_a_detector(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    point = EntryPoint(name="power", value="own_classes:Power", group=ENTRY_POINTS)
    monkeypatch.setattr("pseudoval.detectors.entry_points", lambda group: [point])
    found = detector_class("power")
    assert found.name == "power"
    assert [parameter.name for parameter in found.parameters] == ["power", "colours", "cell"]
    assert run(["studies"]) == 0
    assert "power " in capsys.readouterr().out
    with pytest.raises(UserError, match=r"'nearest'.*, power,"):
        detector_class("nearest")
