import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from pseudoval.data.files import LOCK, MARKER, claim_folder, clear_folder
from pseudoval.data.locks import locked
from pseudoval.errors import UserError


@pytest.fixture
def run(tmp_path: Path) -> Path:
    claim_folder(tmp_path / "run", "run")
    return tmp_path / "run"


def test_one_command_at_a_time_and_the_first_is_named(run: Path) -> None:
    with locked(run, "tune"):
        held = json.loads((run / LOCK).read_text())
        with (
            pytest.raises(UserError, match=f"'pseudoval tune'.*process {os.getpid()} on"),
            locked(run, "evaluate"),
        ):
            pass
        assert json.loads((run / LOCK).read_text()) == held, "a refusal leaves it as it is"
        clear_folder(run)
        assert (run / LOCK).exists(), "--overwrite keeps the lock"
    assert [path.name for path in run.iterdir()] == [MARKER]


def test_the_lock_of_a_process_that_is_gone_is_taken_over(run: Path) -> None:
    dies = (
        "import os, sys; from pathlib import Path; from pseudoval.data.locks import locked\n"
        "with locked(Path(sys.argv[1]), 'tune'): os._exit(9)"
    )
    assert subprocess.run([sys.executable, "-c", dies, str(run)], check=False).returncode == 9
    assert (run / LOCK).exists()
    with locked(run, "tune"):
        held = json.loads((run / LOCK).read_text())
        assert held["pid"] == os.getpid()
    # The number of a process is given away again: it is that process only if it began then.
    (run / LOCK).write_text(json.dumps({**held, "started": held["started"] - 100}))
    with locked(run, "tune"):
        pass


def test_of_another_machine_one_cannot_know(run: Path) -> None:
    with locked(run, "tune"):
        held = json.loads((run / LOCK).read_text())
    assert held["host"] == platform.node()
    (run / LOCK).write_text(json.dumps({**held, "host": "node-17", "pid": 2**22 + 1}))
    with pytest.raises(UserError, match=r"on node-17.*remove .*\.lock\.json"), locked(run, "tune"):
        pass
    (run / LOCK).write_text("{ half of i")
    with locked(run, "tune"):
        pass


def test_what_was_left_in_the_folder_is_removed_before_and_after(run: Path) -> None:
    dies = (
        "import os, sys; from pathlib import Path; from pseudoval.data.files import atomic_path\n"
        "with atomic_path(Path(sys.argv[1]) / 'blocks' / 'a.npz') as path:\n"
        "    path.touch(); os._exit(9)"
    )

    def leave_one() -> None:
        command = [sys.executable, "-c", dies, str(run)]
        assert subprocess.run(command, check=False).returncode == 9
        assert len(list((run / "blocks").iterdir())) == 1

    leave_one()
    with locked(run, "tune"):
        assert not list((run / "blocks").iterdir())
        leave_one()  # a worker
    assert not list((run / "blocks").iterdir())
