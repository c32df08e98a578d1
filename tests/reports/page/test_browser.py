"""report.html in headless Chromium, at phone and desktop width, light and dark."""

import itertools
import re
from pathlib import Path
from typing import Any

import pytest
from browser import find_browser, look
from report_runs import make_run

from reports import write_report

VIEWS = [(375, False), (375, True), (1280, False), (1280, True)]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    find_browser()
    run = make_run(tmp_path_factory.mktemp("browser") / "run", ("cable", "a_rather_long_category"))
    return write_report([run]) / "report.html"


@pytest.fixture(scope="module", params=VIEWS, ids=lambda view: f"{view[0]}{'-dark' * view[1]}")
def seen(
    request: pytest.FixtureRequest, page: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    width, dark = request.param
    found = look(page, tmp_path_factory.mktemp("look") / "page", width=width, dark=dark)
    assert (found["width"], found["dark"]) == (width, dark)
    return found


def test_it_renders_without_complaint_or_request(seen: dict[str, Any]) -> None:
    assert seen["console"] == []
    assert [name for name in seen["resources"] if not name.startswith("data:")] == []
    assert len(seen["images"]) >= 8
    assert all(image["width"] > 0 and len(image["alt"]) > 20 for image in seen["images"])


def test_nothing_sticks_out(seen: dict[str, Any]) -> None:
    assert seen["scroll"] <= seen["width"]
    assert seen["outside"] == []


def test_every_text_stands_out_from_its_ground(seen: dict[str, Any]) -> None:
    assert seen["texts"] > 100
    assert seen["faint"] == []  # WCAG AA: 4.5 to 1
    assert (seen["ground"] < 0.1) == seen["dark"]


def test_it_can_be_read_by_ear_and_by_keyboard(seen: dict[str, Any]) -> None:
    assert seen["landmarks"] == ["header", "nav", "main"]
    levels = [level for level, _ in seen["headings"]]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    assert seen["dead"] == [] and seen["focusable"] == 0
    assert all(table["caption"] and not table["unscoped"] for table in seen["tables"])


def test_tables_sort(seen: dict[str, Any]) -> None:
    sortable = [table for table in seen["tables"] if table["sortable"]]
    assert len(sortable) >= 5
    for table in sortable:
        for column in table["sorted"]:
            assert column["marked"] == 1, "one column at most says that it is the sorted one"
            first, second = column["turns"]
            assert {first["order"], second["order"]} == {"ascending", "descending"}
            for turn in (first, second):
                assert sorted(turn["values"]) == sorted(column["before"])
                keys = [_key(value) for value in turn["values"] if value not in ("–", "n/a", "")]
                down = turn["order"] == "descending"
                assert keys == sorted(keys, reverse=down), table["caption"]


def _key(value: str) -> tuple[float, str]:
    number = value.replace(",", "").removeprefix("< ").split()[0]
    try:
        return float(number) - 0.5 * value.startswith("<"), ""
    except ValueError:
        return 0.0, value.casefold()


def test_the_look_itself_sees_what_is_wrong(page: Path, tmp_path: Path) -> None:
    spoilt = tmp_path / "spoilt.html"
    wrong = (
        '<img src="http://127.0.0.1:9/x.png" alt="x"><table><tr><th>x</th></tr></table>'
        '<p class="wrong">too wide and too faint</p></main>'
    )
    text = page.read_text().replace("</main>", wrong)
    text = re.sub("style-src &#39;sha256-[^&]+&#39;", "style-src 'unsafe-inline'", text)
    spoilt.write_text(text.replace("</style>", ".wrong { width: 999px; color: #ddd }</style>"))
    found = look(spoilt, tmp_path / "look", width=375, dark=False)
    assert found["console"] and found["resources"]
    assert [image["width"] for image in found["images"]][-1] == 0
    assert found["scroll"] > 375 and found["outside"] and found["faint"]
    assert any(table["unscoped"] and not table["caption"] for table in found["tables"])
