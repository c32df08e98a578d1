"""What a fit returns, as one safetensors file: arrays, and plain JSON values in its metadata."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from lafite_core.files import write_tensors
from pseudoval.data.files import sha256_file
from pseudoval.errors import UserError

State = dict[str, Any]
"""Arrays (NumPy or torch), JSON values, and dicts of these."""

JSON = "json"
"""The one key of the metadata: the order of several would be another at each writing."""


def write_state(path: Path, state: Any, about: Mapping[str, Any], what: str) -> str:
    """Write a state whole or not at all; the same state gives the same bytes.

    Args:
        about: JSON-able, to be found again with the state.
        what: names the state's maker in an error.

    Returns:
        SHA-256 of the file.

    Raises:
        UserError: something in the state is neither an array nor a JSON value: its key and type.
    """
    if not isinstance(state, dict):
        raise UserError(
            f"{what} returned {_type(state)}; it must return a dict of arrays and plain values."
        )
    tensors: dict[str, Tensor] = {}
    kinds: dict[str, str] = {}
    plain = _taken_apart(state, "", tensors, kinds, what)
    text = json.dumps({"about": dict(about), "arrays": kinds, "values": plain}, allow_nan=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_tensors(path, tensors, {JSON: text})
    return sha256_file(path)


def read_state(path: Path) -> tuple[State, dict[str, Any]]:
    """A state, its tensors on the CPU, and what was written about it.

    Raises:
        UserError: the file is missing or damaged.
    """
    try:
        with safe_open(path, "pt") as file:
            found = json.loads(file.metadata()[JSON])
            arrays = {name: file.get_tensor(name) for name in found["arrays"]}
        state: State = _joined(found["values"], "", arrays, found["arrays"])
        return state, found["about"]
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"The state in {path} cannot be read: {error}. Train again.") from None


def _taken_apart(
    value: Any, key: str, tensors: dict[str, Tensor], kinds: dict[str, str], what: str
) -> Any:
    """A part of a state as JSON; its arrays, by their path, go into ``tensors``."""
    if isinstance(value, dict):
        for name in value:
            if type(name) is not str or "/" in name or not name:
                raise UserError(
                    f"{what} returned a state with the key {name!r}; keys are text without '/'."
                )
        return {
            name: _taken_apart(part, f"{key}/{name}" if key else name, tensors, kinds, what)
            for name, part in value.items()
        }
    if isinstance(value, Tensor | np.ndarray):
        kinds[key] = "torch" if isinstance(value, Tensor) else "numpy"
        tensors[key] = _tensor(value, key, what)
        return None
    if isinstance(value, np.generic):
        value = value.item()
    if _is_json(value):
        return value
    raise UserError(
        f"{what} returned a state with {_type(value)} at {key!r}; a state is arrays (NumPy or "
        "torch), finite numbers, texts, true and false, None, lists of these and dicts."
    )


def _tensor(value: Any, key: str, what: str) -> Tensor:
    """An array as a tensor of its own memory, which tied weights do not have."""
    try:
        if isinstance(value, np.ndarray):
            return torch.from_numpy(np.array(value, order="C"))
        if value.layout is torch.strided and not value.is_complex() and not value.is_quantized:
            return value.detach().cpu().clone()
    except TypeError:  # of objects, texts, dates
        pass
    raise UserError(
        f"{what} returned a state with an array of {value.dtype} at {key!r}; give a dense array of "
        "real numbers or of true and false."
    )


def _is_json(value: Any) -> bool:
    """Whether a value comes back from JSON as it was."""
    if type(value) is list:
        return all(map(_is_json, value))
    if type(value) is dict:
        return all(type(key) is str and _is_json(part) for key, part in value.items())
    return value is None or (type(value) is float and math.isfinite(value)) or (
        type(value) in (bool, int, str)
    )  # fmt: skip


def _joined(value: Any, key: str, arrays: Mapping[str, Tensor], kinds: Mapping[str, str]) -> Any:
    """The inverse of ``_taken_apart``."""
    if isinstance(value, dict):
        return {
            name: _joined(part, f"{key}/{name}" if key else name, arrays, kinds)
            for name, part in value.items()
        }
    if key in kinds:
        return arrays[key] if kinds[key] == "torch" else arrays[key].numpy()
    return value


def _type(value: Any) -> str:
    kind = type(value)
    module = "" if kind.__module__ == "builtins" else f"{kind.__module__}."
    return f"a value of type {module}{kind.__qualname__}"
