"""The demo: rendered images, then the single commands on them."""

from pathlib import Path
from tempfile import TemporaryDirectory

from pseudoval.data.files import claim_folder, read_json, write_json
from pseudoval.demo import render_dataset
from pseudoval.errors import UserError


def render_data(out: Path, seed: int) -> None:
    """Render ``out/data`` unless it is there already.

    Raises:
        UserError: ``out`` is not ours, or holds a demo of another seed.
    """
    claim_folder(out, "demo")
    about = out / "demo.json"
    if about.exists():
        found = read_json(about, "The demo's header")["seed"]
        if found != seed:
            raise UserError(
                f"{out} holds a demo with seed {found}, not {seed}; choose another --out."
            )
    write_json(about, {"seed": seed})
    if not (out / "data").exists():
        with TemporaryDirectory(prefix=".data.", dir=out) as folder:
            fresh = Path(folder) / "data"
            fresh.mkdir()
            render_dataset(fresh, seed=seed)
            fresh.replace(out / "data")


def demo_commands(out: Path, seed: int) -> list[list[str]]:
    """The arguments of the commands that the demo runs, in order."""
    commands = (
        f"build DATA --out PSEUDO --per-normal 1 --seed {seed}",
        f"train DATA --pseudo PSEUDO --out MODEL --preset demo --resume --seed {seed}",
        f"tune --study t_then_k --model MODEL --pseudo PSEUDO --out RUN --seed {seed}",
        "evaluate RUN DATA",
        "report RUN",
    )
    folders = {name.upper(): str(out / name) for name in ("data", "pseudo", "model", "run")}
    return [[folders.get(word, word) for word in command.split()] for command in commands]
