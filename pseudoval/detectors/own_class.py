"""The class of a detector of one's own: imported, looked through, called with clear errors."""

import inspect
import random
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from lafite_core.errors import LafiteError
from pseudoval.detectors.protocol import Parameter
from pseudoval.errors import UserError

LONGEST = 300
"""Characters of another's error message that are shown."""


def import_class(where: str) -> type:
    """The class that ``module:Class`` names; modules of the current folder are found too.

    Raises:
        UserError: there is no such module or class, or the module fails.
    """
    module, _, name = where.partition(":")
    if not all(part.isidentifier() for part in (*module.split("."), name)):
        raise UserError(f"{where!r} names no class; write it as MODULE:CLASS.")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)  # last, so that nothing there hides what is installed
    try:
        found = getattr(import_module(module), name, None)
    except UserError as error:  # such as of a parameter
        raise UserError(f"{module} cannot be imported: {error}") from error
    except Exception as error:
        if isinstance(error, ModuleNotFoundError) and f"{module}.".startswith(f"{error.name}."):
            raise UserError(
                f"There is no module {module!r} to take the detector {where} from; go to its "
                "folder, or name that in PYTHONPATH."
            ) from None
        raise UserError(f"{module} cannot be imported: {described(error)}.") from error
    if not isinstance(found, type):
        file = getattr(sys.modules[module], "__file__", None) or module
        raise UserError(f"There is no class {name!r} in {file}; write MODULE:CLASS.")
    return found


def check_own_class(name: str, own: Any) -> None:
    """Refuse a class that is no detector of one's own.

    Args:
        name: of the detector.

    Raises:
        UserError: what it lacks.
    """
    for method in ("fit", "score"):
        if not callable(getattr(own, method, None)):
            raise UserError(
                f"The detector {name} has no {method}; a detector has parameters, fit and score."
            )
    parameters = getattr(own, "parameters", None)
    sound = isinstance(parameters, list | tuple)
    if not sound or not all(isinstance(one, Parameter) for one in parameters or ()):
        raise UserError(
            f"The parameters of {name} are {parameters!r:.80}; give a list of Parameter, such as "
            'parameters = [Parameter("k", grid=(1, 5, 9))].'
        )
    names = [one.name for one in parameters or ()]
    for one in names:
        if names.count(one) > 1:
            raise UserError(f"The detector {name} has two parameters {one!r}; rename one.")
    fitted = {one.name: one.default for one in parameters or () if one.needs_fit}
    scored = {one.name: one.default for one in parameters or () if not one.needs_fit}
    _check_call(name, own.fit, "images", fitted)
    _check_call(name, own.score, "loaded, image", scored)


def _check_call(name: str, method: Any, arguments: str, keywords: dict[str, Any]) -> None:
    given = ["self", *arguments.split(", ")]
    try:
        inspect.signature(method).bind(*given, **keywords)
    except TypeError as error:
        call = ", ".join([arguments, *(f"{keyword}=..." for keyword in keywords)])
        raise UserError(
            f"{name}.{method.__name__} is called as {method.__name__}({call}), and it does not "
            f"take that: {error}."
        ) from None


def calling(what: str, function: Callable[..., Any], *arguments: Any, **keywords: Any) -> Any:
    """Call somebody else's function.

    Raises:
        UserError: it failed; with its error and where that was.
    """
    try:
        return function(*arguments, **keywords)
    except (UserError, LafiteError):
        raise
    except Exception as error:
        raise UserError(f"{what} failed with {described(error)}.") from error


def described(error: Exception) -> str:
    """An error of somebody else's code, and the line of theirs that it came from."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [f for f in frames if f.filename != __file__ and "<frozen" not in f.filename]
    theirs = [f for f in ours if "site-packages" not in f.filename] or ours
    text = " ".join(str(error).split())
    what = f"{type(error).__name__}: {text[:LONGEST]}" if text else type(error).__name__
    return f"{what} ({theirs[-1].filename}, line {theirs[-1].lineno})" if theirs else what


@contextmanager
def seeded(device: str, *key: int) -> Iterator[None]:
    """Seed the global random states of Python, NumPy and torch within the block.

    Args:
        key: whole numbers from 0 on, which together are the seed.
    """
    import torch

    seeds = np.random.SeedSequence(key).generate_state(3)
    python, legacy = random.getstate(), np.random.get_state()  # noqa: NPY002 (what others use)
    with torch.random.fork_rng([device] if device.startswith("cuda") else []):
        random.seed(int(seeds[0]))
        np.random.seed(seeds[1])  # noqa: NPY002
        torch.manual_seed(int(seeds[2]))
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(legacy)  # noqa: NPY002
