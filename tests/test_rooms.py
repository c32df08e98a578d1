"""The rooms and the directions of imports between them, as docs/design.md draws them."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FLOORS = {
    "lafite_core": [{"lafite_core"}],
    "pseudoval": [
        {"cli"},
        {"audit", "scoring", "demo"},
        {"models"},
        {"pseudo_set"},
        {"detectors", "statistics"},
        {"generators", "metrics", "tasks"},
        {"data"},
        {"pseudoval"},
    ],
    "studies": [{"studies"}, {"search"}, {"design"}],
    "reports": [{"reports"}, {"page"}, {"tables", "figures"}, {"findings"}],
}
"""The rooms of each package, from the top floor down. A room imports rooms of lower floors only;
``pseudoval`` are the errors and the progress display, which all rooms use; ``studies`` and
``reports`` are the files on top of the sub-packages.
"""
OPEN_TO_REPORTS = {"data", "metrics", "statistics", "pseudoval"}
KNOW_THE_CORE = {"detectors", "models", "audit", "cli"}


def modules_imported(path: Path) -> set[str]:
    """Dotted names that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def room(package: str, dotted: str) -> str:
    """The room of a module, or the package itself for a file outside its sub-packages."""
    parts = dotted.split(".")
    inside = len(parts) > 1 and (ROOT / package / parts[1]).is_dir()
    return parts[1] if inside else package


def files(package: str) -> list[tuple[str, Path]]:
    """Every file of a package with its room."""
    found = []
    for path in sorted((ROOT / package).rglob("*.py")):
        dotted = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        found.append((room(package, dotted.removesuffix(".__init__")), path))
    assert found
    return found


@pytest.mark.parametrize("package", FLOORS)
def test_rooms_import_lower_floors_only(package: str) -> None:
    floor = {name: number for number, names in enumerate(FLOORS[package]) for name in names}
    for own, path in files(package):
        assert own in floor, f"{own} is no room of docs/design.md"
        if path == ROOT / package / "__main__.py":
            continue
        for dotted in modules_imported(path):
            if dotted.split(".")[0] == package and (other := room(package, dotted)) != own:
                assert floor[other] > floor[own], f"{path}: {own} imports {dotted}"


@pytest.mark.parametrize(
    ("package", "others"),
    [
        ("lafite_core", {"pseudoval", "studies", "reports", "optuna", "faiss_cpu"}),
        ("pseudoval", {"studies", "reports", "optuna"}),
        ("studies", {"lafite_core", "reports"}),
        ("reports", {"lafite_core", "studies", "torch", "optuna", "timm"}),
    ],
)
def test_packages_do_not_know_each_other(package: str, others: set[str]) -> None:
    for own, path in files(package):
        if own != "cli":
            assert not {name.split(".")[0] for name in modules_imported(path)} & others, path


def test_few_rooms_know_the_core() -> None:
    for own, path in files("pseudoval"):
        if own not in KNOW_THE_CORE:
            known = {name.split(".")[0] for name in modules_imported(path)}
            assert "lafite_core" not in known, path


@pytest.mark.parametrize(
    ("package", "open_rooms"),
    [("studies", {*FLOORS["pseudoval"][1], "models", "pseudo_set", "detectors", "tasks",
                  *OPEN_TO_REPORTS}),
     ("reports", OPEN_TO_REPORTS)],
)  # fmt: skip
def test_what_is_open_to_other_packages(package: str, open_rooms: set[str]) -> None:
    for _, path in files(package):
        for name in modules_imported(path):
            if name.startswith("pseudoval."):
                assert room("pseudoval", name) in open_rooms, f"{path} imports {name}"


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("reports", "torch"),
        ("reports", "optuna"),
        ("lafite_core.model", "faiss"),
        ("pseudoval.cli", "torch"),
        ("pseudoval.cli", "scipy"),
        ("pseudoval.cli", "optuna"),
        ("pseudoval.cli", "distributed"),
        ("studies", "distributed"),
        ("pseudoval.models.train", "distributed"),
        ("pseudoval.scoring", "distributed"),
    ],
)
def test_what_an_import_does_not_bring(module: str, absent: str) -> None:
    code = f"import sys, {module}; sys.exit({absent!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
