"""audit.html: complete, self-contained, the same again."""

import html
import itertools
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import find_browser, look
from PIL import Image

from pseudoval.data.files import claim_folder, write_json
from pseudoval.errors import UserError
from reports import write_audit_page
from reports.figures.distributions import distributions_figure
from reports.page.set_page import audit_verdict, heading

SPREAD = {"mean": 0.5, "min": 0.1, "low": 0.1, "median": 0.25, "high": 0.9, "max": 1.0, "count": 9}


def make_audit(folder: Path, **changed: Any) -> dict[str, Any]:
    """An audit of two categories, one with an awkward name, as ``pseudoval audit`` writes it."""
    names = ("cable", "a<b>&'quoted' category")
    rng = np.random.default_rng(0)
    claim_folder(folder, "audit")
    (folder / "sheets").mkdir(exist_ok=True)
    images, categories = [], {}
    for number, name in enumerate(names):
        Image.fromarray(rng.integers(0, 255, (60, 90, 3), dtype=np.uint8)).save(
            folder / "sheets" / f"{number}.png"
        )
        categories[name] = {
            "normals": 6, "anomalies": 9, "image_auroc": 0.91, "area": SPREAD,
            "visibility": SPREAD, "on_object": None, "empty": 0, "invisible": 1,
            "changed_outside": 0, "foreground": {"kind": "texture", "reason": "texture: all"},
            "near_duplicates": {
                "with_training": 1, "within_held_out": 0, "exact_copies": 0, "threshold": 0.85,
                "reason": None, "pairs": [{"held_out": f"{name}/1.png", "other": f"{name}/2.png",
                                           "side": "training", "correlation": 0.93}],
            },
            "sheet": f"sheets/{number}.png",
        }  # fmt: skip
        for index in range(15):
            images.append(
                {"path": f"{name}/{index}.png", "category": name, "label": int(index > 5),
                 "area": rng.uniform(0.001, 0.05), "visibility": rng.uniform(5, 50),
                 "on_object": None, "score_rank": rng.uniform()}
            )  # fmt: skip
    content: dict[str, Any] = {
        "format_version": 1, "package_version": "0", "manifest_sha256": "m", "split_sha256": "s",
        "seed": 0, "split_seed": 0,
        "generator": {"name": "lafite", "parameters": {"opacity": [1.0, 1.0]}},
        "reference": {"backbone": "filterbank", "from": "normals"},
        "reference_reason": None, "near_duplicates_reason": None, "image_auroc": 0.91,
        "by_generator": {
            name: {"anomalies": 9, "image_auroc": 0.9, "area": SPREAD, "visibility": SPREAD}
            for name in ("lafite", "perlin")
        },
        "categories": categories,
        "warnings": [{"code": "invisible", "category": "cable", "text": "cable: <1> is faint."}],
        "images": images, **changed,
    }  # fmt: skip
    write_json(folder / "audit.json", content)
    return content


def test_the_page_says_what_the_audit_found(tmp_path: Path) -> None:
    make_audit(tmp_path / "audit")
    page = write_audit_page(tmp_path / "audit").read_text()
    for text in ("12 held-out normals and 18 pseudo anomalies of 2 categories", "0.910",
                 "cable: &lt;1&gt; is faint.", "a normal to train on", "perlin", "a&lt;b&gt;&amp;",
                 "cable/1.png"):  # fmt: skip
        assert text in page, text
    assert "<b>" not in page
    assert page.count("data:image/png;base64,") == 2
    assert page.count("data:image/svg+xml;base64,") == 1


def test_it_asks_nobody_for_anything(tmp_path: Path) -> None:
    make_audit(tmp_path / "audit")
    page = write_audit_page(tmp_path / "audit").read_text()
    assert "default-src 'none'" in html.unescape(page)
    assert not re.search(r"""(?:src|href)=["'](?!data:|#)""", page)
    assert not re.search(r"https?://(?!www\.w3\.org)", page)


def test_the_same_again(tmp_path: Path) -> None:
    make_audit(tmp_path / "audit")
    first = write_audit_page(tmp_path / "audit").read_bytes()
    assert write_audit_page(tmp_path / "audit").read_bytes() == first


def test_what_was_not_measured_is_said(tmp_path: Path) -> None:
    made = make_audit(tmp_path / "audit")
    for figures in made["categories"].values():
        figures |= {"near_duplicates": None, "image_auroc": None, "visibility": None}
    for row in made["images"]:
        row |= {"score_rank": None, "visibility": None}
    made |= {
        "image_auroc": None, "reference": None, "reference_reason": "no bank was given",
        "near_duplicates_reason": "no data were given", "warnings": [],
    }  # fmt: skip
    (tmp_path / "audit" / "audit.json").write_text(json.dumps(made))
    page = write_audit_page(tmp_path / "audit").read_text()
    assert "was not measured: no bank was given" in page
    assert "Not looked for: no data were given" in page
    assert "Read with care" not in page and "without findings" in page


def test_the_heading_names_the_weightiest_finding(tmp_path: Path) -> None:
    made = make_audit(tmp_path / "audit")
    assert heading(made) == "A pseudo set to read with care"
    saturated = {"code": "saturated", "category": None, "text": ""}
    assert "too easy" in heading({**made, "warnings": [saturated]})
    assert "too hard" in heading({**made, "warnings": [{**saturated, "code": "guessing"}]})
    assert "care" in heading({**made, "warnings": [{**saturated, "category": "cable"}]})
    one = {**made, "categories": {"cable": made["categories"]["cable"]}}
    assert "of 1 category," in audit_verdict(one)


def test_a_panel_for_what_is_known(tmp_path: Path) -> None:
    made = make_audit(tmp_path / "audit")
    figure = distributions_figure(made)
    assert figure is not None and len(figure.axes) == 3  # nothing lies on an object here
    assert distributions_figure({**made, "images": made["images"][:6]}) is None
    many = [dict(made["images"][-1], area=0.01 + i / 1e5) for i in range(3000)]
    figure = distributions_figure({**made, "images": many})
    assert figure is not None
    assert 100 < len(figure.axes[0].collections[0].get_offsets()) <= 400


def test_other_folders_and_missing_sheets_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="There is no audit folder"):
        write_audit_page(tmp_path / "none")
    make_audit(tmp_path / "audit")
    (tmp_path / "audit" / "sheets" / "1.png").unlink()
    with pytest.raises(UserError, match=r"1\.png is missing; run 'pseudoval audit' again"):
        write_audit_page(tmp_path / "audit")
    make_audit(tmp_path / "audit", format_version=7)
    with pytest.raises(UserError, match="format version 7"):
        write_audit_page(tmp_path / "audit")


@pytest.mark.parametrize(("width", "dark"), [(375, True), (1280, False)])
def test_in_a_browser(tmp_path: Path, width: int, dark: bool) -> None:
    find_browser()
    make_audit(tmp_path / "audit")
    page = write_audit_page(tmp_path / "audit")
    seen = look(page, tmp_path / "look", width=width, dark=dark)
    assert seen["console"] == []
    assert [name for name in seen["resources"] if not name.startswith("data:")] == []
    assert len(seen["images"]) == 3 and all(image["width"] > 0 for image in seen["images"])
    assert seen["scroll"] <= seen["width"] and seen["outside"] == []
    assert seen["faint"] == []
    assert seen["landmarks"] == ["header", "nav", "main"]
    levels = [level for level, _ in seen["headings"]]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    assert seen["dead"] == []
    assert all(table["caption"] and not table["unscoped"] for table in seen["tables"])
