"""The directions of imports that docs/design.md fixes."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = ("lafite_core", "pseudoval", "studies", "reports")
OPEN_TO_REPORTS = {"metrics", "statistics", "data", "errors"}


def imports(path: Path) -> set[str]:
    """Dotted names that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def room_files(room: str) -> list[Path]:
    files = sorted((ROOT / room).rglob("*.py"))
    assert files
    return files


def targets(path: Path) -> set[str]:
    return {name.split(".")[0] for name in imports(path)}


def test_core_stands_alone() -> None:
    for path in room_files("lafite_core"):
        assert not targets(path) & {"pseudoval", "studies", "reports", "optuna"}, path


def test_pseudoval_knows_the_core_only_where_it_is_wrapped() -> None:
    wraps = {"cli", "models", "detectors", "audit"}
    for path in room_files("pseudoval"):
        room = path.relative_to(ROOT / "pseudoval").parts[0]
        if room not in wraps:
            assert "lafite_core" not in targets(path), path
        if room != "cli":
            assert not targets(path) & {"studies", "reports", "optuna"}, path


def test_studies_know_pseudoval_but_not_its_command_line() -> None:
    for path in room_files("studies"):
        assert not targets(path) & {"lafite_core", "reports"}, path
        assert not any(name.startswith("pseudoval.cli.commands") for name in imports(path)), path


def test_reports_know_matrices_only() -> None:
    for path in room_files("reports"):
        assert not targets(path) & {"lafite_core", "studies", "torch", "optuna", "timm"}, path
        for name in imports(path):
            if name.startswith("pseudoval.") and name != "pseudoval.__version__":
                assert name.split(".")[1] in OPEN_TO_REPORTS, f"{path} imports {name}"


@pytest.mark.parametrize(
    ("room", "absent"),
    [
        ("reports", "torch"),
        ("reports", "optuna"),
        ("lafite_core.model", "faiss"),
        ("pseudoval.cli", "torch"),
        ("pseudoval.cli", "pandas"),
        ("pseudoval.cli", "scipy"),
        ("pseudoval.cli", "optuna"),
    ],
)
def test_what_an_import_does_not_bring(room: str, absent: str) -> None:
    code = f"import sys, {room}; sys.exit({absent!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
