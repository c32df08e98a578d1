"""A pretended GPU: the code for CUDA runs on a machine that has none, and the values are a CPU's.

    with pretended_gpu(memory=50e6) as gpu:
        run(["tune", "--device", "cuda:1"])
    assert gpu.waits["sweep.py:68"] == 3

Every tensor is an ordinary one in the memory of the CPU. What makes it one "of the GPU" is the name
of a device on its storage, which views share and results inherit. Two modes of torch see to that:
one stands before the functions of Python (what device a tensor has, moving, creating), the other
before every operation of the library.

It shows that
- a tensor, an index or a generator of another device is refused where a GPU refuses it, and so is
  ``numpy()`` of a tensor that is not on the CPU;
- memory runs out: more than ``memory`` bytes on a device raise ``torch.OutOfMemoryError``;
- a copy to the CPU that nobody waited for has not arrived: until then it holds NaN;
- where the program waits for the device and what is copied, by line of this project.

It cannot show what kernels compute, how fast they are and how they round, what fits beside the
workspaces of libraries, or whether a graph compiles: ``torch.compile`` only notes the shapes it is
called with, and autocast is that of the CPU. Streams are not told apart but by their device, and a
buffer that is overwritten while it is still being copied to the device goes unnoticed. It is a
lint, and no substitute for a run on a GPU.
"""

import sys
import threading
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

ROOT = Path(__file__).parents[1]
PACKAGES = tuple(str(ROOT / name) for name in ("lafite_core", "pseudoval", "studies"))
DEVICES = ("cuda:0", "cuda:1")
ENOUGH = 10**11

LOOKS = {"nonzero", "masked_select", "_local_scalar_dense", "_unique2", "unique_dim", "equal"}
"""Operations whose result, or its shape, the program has to wait for."""
QUESTIONS = {"_has_compatible_shallow_copy_type", "is_same_size"}
"""Operations on tensors of any devices."""
INDEXED = {"index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index"}


class PretendedGPU:
    """What a program did on the pretended devices.

    Attributes:
        waits: how often it waited for a device, by line (``sweep.py:68``).
        copied: bytes by (``to``, ``from`` or ``within`` the devices, line).
        shapes: the shapes that compiled functions were called with.
        used, peak: bytes now and at most, by device.
    """

    def __init__(self, memory: float) -> None:
        self.memory = memory
        self.waits: Counter[str] = Counter()
        self.copied: Counter[tuple[str, str]] = Counter()
        self.shapes: Counter[tuple[tuple[int, ...], ...]] = Counter()
        self.used: Counter[str] = Counter()
        self.peak: Counter[str] = Counter()
        self.arriving: list[tuple[str, Tensor, Tensor]] = []
        self.own_work = threading.local()
        self._lock = threading.RLock()

    @contextmanager
    def bookkeeping(self) -> Iterator[None]:
        """Operations within the block are those of this file, and on plain tensors."""
        self.own_work.now = True
        try:
            yield
        finally:
            self.own_work.now = False

    def place(self, tensor: Tensor, device: str) -> Tensor:
        """Let a new tensor lie on a device."""
        storage = tensor.untyped_storage()
        if device != "cpu" and not hasattr(storage, "device_name"):
            size = storage.nbytes()
            with self._lock:
                if self.used[device] + size > self.memory:
                    raise torch.OutOfMemoryError(
                        f"{device} has {self.memory:.0f} bytes (pretended), {self.used[device]} of "
                        f"them in use, and {size} more were asked for."
                    )
                self.used[device] += size
                self.peak[device] = max(self.peak[device], self.used[device])
            storage.device_name = device
            weakref.finalize(storage, self._free, device, size)
        return tensor

    def _free(self, device: str, size: int) -> None:
        with self._lock:
            self.used[device] -= size

    def wait(self, device: str | None = None) -> None:
        """All copies from a device, or from all of them, arrive."""
        self.waits[_line()] += 1
        device = None if device is None else _named(device)
        with self.bookkeeping(), torch.inference_mode():
            for source, into, values in self.arriving:
                if device in (None, source):
                    into.copy_(values)
        self.arriving = [one for one in self.arriving if device not in (None, one[0])]

    def move(self, tensor: Tensor, target: str, into: Tensor | None, asynchronous: bool) -> Tensor:
        """Copy to another device, into a tensor there or a new one."""
        source, pinned = device_of(tensor), _is_pinned(tensor if target != "cpu" else into)
        pinned |= into is None and target == "cpu"  # torch takes a pinned buffer for such a copy
        way = "to" if source == "cpu" else "from" if target == "cpu" else "within"
        self.copied[way, _line()] += tensor.nbytes
        waits = not (asynchronous and pinned)
        if waits:
            self.wait(source if target == "cpu" else target)
        with self.bookkeeping(), torch.no_grad():
            if into is None:
                into = self.place(tensor.clone(), target)
            elif waits or target != "cpu":
                into.copy_(tensor)
            if target == "cpu" and not waits:
                self.arriving.append((source, into.detach(), tensor.detach().clone()))
                into.fill_(float("nan") if into.is_floating_point() else 0)
        return into


def device_of(tensor: Tensor) -> str:
    """``cpu``, ``cuda:0`` or ``cuda:1``."""
    return getattr(tensor.untyped_storage(), "device_name", "cpu")


def _named(device: Any) -> str:
    found = torch.device("cuda", device) if isinstance(device, int) else torch.device(device)
    if found.type == "cpu":
        return "cpu"
    name = f"cuda:{found.index or 0}"
    if name not in DEVICES:
        raise RuntimeError(f"CUDA error: invalid device ordinal {name} (pretended)")
    return name


def _is_pinned(tensor: Tensor | None) -> bool:
    return tensor is not None and hasattr(tensor.untyped_storage(), "pinned")


def _line() -> str:
    """Where in this project the call came from."""
    frame = sys._getframe(1)
    while frame is not None and not frame.f_code.co_filename.startswith(PACKAGES):
        frame = frame.f_back  # type: ignore[assignment]
    return f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}" if frame else "elsewhere"


class Operations(TorchDispatchMode):
    """Before every operation of the library: all its tensors are on one device, and so is what
    comes out. Numbers (tensors without dimensions) of the CPU may take part everywhere.
    """

    def __init__(self, gpu: PretendedGPU) -> None:
        super().__init__()
        self.gpu = gpu

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name, kwargs = func.__name__.split(".")[0], dict(kwargs or {})
        if getattr(self.gpu.own_work, "now", False) or name in QUESTIONS:
            return func(*args, **kwargs)
        tensors = [one for one in tree_leaves((args, kwargs)) if isinstance(one, Tensor)]
        wanted = _named(kwargs.get("device") or "cpu")
        if wanted != "cpu":  # "cpu" may as well be what an input says of itself below this level
            found = func(*args, **kwargs | {"device": torch.device("cpu")})
            return self.gpu.place(found, wanted)
        places = [device_of(one) for one in tensors]
        if name == "copy_" and places[0] != places[1]:
            self.gpu.move(tensors[1], places[0], tensors[0], asynchronous=False)
            return tensors[0]
        known = {place for one, place in zip(tensors, places, strict=True) if one.ndim}
        known |= set(places) - {"cpu"}
        if name in INDEXED and places[0] != "cpu" and known <= {"cpu", places[0]}:
            if "cpu" in known or any(one.dtype == torch.bool for one in tensors[1:]):
                self.gpu.waits[_line()] += 1  # indices are copied, or those of a mask counted
            known = {places[0]}
        if len(known) > 1:
            raise RuntimeError(f"{func} got tensors of several devices (pretended): {places}")
        device = known.pop() if known else "cpu"
        if name in LOOKS and device != "cpu":
            self.gpu.waits[_line()] += 1
        found = func(*args, **kwargs)
        given = {id(one) for one in tensors}
        for one in tree_leaves(found):
            if isinstance(one, Tensor) and id(one) not in given:
                self.gpu.place(one, device)
        return found


class Calls(TorchFunctionMode):
    """Before the functions of Python: those that ask for a device, name one or change it."""

    def __init__(self, gpu: PretendedGPU) -> None:
        super().__init__()
        self.gpu = gpu

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if getattr(self.gpu.own_work, "now", False):
            return func(*args, **kwargs)
        name = getattr(func, "__name__", "")
        first = args[0] if args and isinstance(args[0], Tensor) else None
        place = "cpu" if first is None else device_of(first)
        match name:
            case "numpy" | "__array__" if place != "cpu":
                raise TypeError(f"a tensor on {place} cannot be an array (pretended); use cpu()")
            case "tolist" if place != "cpu":
                self.gpu.wait(place)
            case "cpu" | "cuda":
                return self._to(first, args[1] if len(args) > 1 else name)
            case "to":
                return self._to(*args, **kwargs)
            case "copy_" if device_of(args[1]) != place:
                later = kwargs.get("non_blocking", args[2] if len(args) > 2 else False)
                return self.gpu.move(args[1], place, first, asynchronous=later)
            case "pin_memory" if place == "cpu":
                return _pinned(first.clone())
            case "is_pinned":
                return _is_pinned(first)
            case "tensor" | "as_tensor" if kwargs.get("device") is not None:
                device = _named(kwargs.pop("device"))
                return self._to(func(*args, **kwargs), device)
        pin = kwargs.pop("pin_memory", False)
        if (drawn := kwargs.get("generator")) is not None:
            device = place if kwargs.get("device") is None else _named(kwargs["device"])
            if (own := getattr(drawn, "place", "cpu")) != device:
                raise RuntimeError(f"a generator of {own} cannot draw on {device} (pretended)")
        found = func(*args, **kwargs)
        return _pinned(found) if pin else found

    def _to(
        self, tensor: Tensor, *given: Any, non_blocking: bool = False, **options: Any
    ) -> Tensor:
        """``Tensor.to`` in all its forms."""
        target = options.pop("device", None)
        for one in given:
            if isinstance(one, Tensor):
                target, options["dtype"] = device_of(one), one.dtype
            elif isinstance(one, torch.dtype):
                options["dtype"] = one
            elif isinstance(one, bool):
                non_blocking = one
            elif one is not None:
                target = one
        options = {name: value for name, value in options.items() if value is not None}
        found = tensor.to(**options) if options else tensor
        here = device_of(tensor)
        there = here if target is None else _named(target)
        self.gpu.place(found, here)
        return found if here == there else self.gpu.move(found, there, None, non_blocking)


def _pinned(tensor: Tensor) -> Tensor:
    tensor.untyped_storage().pinned = True  # type: ignore[attr-defined]
    return tensor


class Generator(torch.Generator):
    """One that belongs to a device; it draws what that of the CPU draws."""

    def __new__(cls, device: Any = "cpu") -> "Generator":
        made = super().__new__(cls, "cpu")
        made.place = _named(device)  # type: ignore[attr-defined]
        return made

    def __init__(self, device: Any = "cpu") -> None:
        pass


class Autocast(torch.autocast):
    """That of the CPU."""

    def __init__(self, device_type: str, *args: Any, **kwargs: Any) -> None:
        super().__init__("cpu", *args, **kwargs)


@contextmanager
def pretended_gpu(memory: float = ENOUGH) -> Iterator[PretendedGPU]:
    """Two GPUs, ``cuda:0`` and ``cuda:1``, within the block.

    Args:
        memory: bytes that a device has.
    """
    gpu = PretendedGPU(memory)

    def compiled(function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            leaves = tree_leaves((args, kwargs))
            gpu.shapes[tuple(tuple(one.shape) for one in leaves if isinstance(one, Tensor))] += 1
            return function(*args, **kwargs)

        return call

    def grouped(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any) -> dict[Any, Any]:
            return {
                (next(one for one in lists[0] if one is not None).device, dtype): (lists, places)
                for (_, dtype), (lists, places) in real(*args).items()
            }

        return call

    def free(device: Any = "cuda") -> tuple[int, int]:
        return int(gpu.memory - gpu.used[_named(device)]), int(gpu.memory)

    run = threading.Thread.run

    def run_pretending(thread: threading.Thread) -> None:
        with Calls(gpu), Operations(gpu):  # of this thread alone
            run(thread)

    replaced = {
        (torch.Tensor, "device"): property(lambda tensor: torch.device(device_of(tensor))),
        (torch.Tensor, "is_cuda"): property(lambda tensor: device_of(tensor) != "cpu"),
        (torch, "Generator"): Generator,
        (torch, "autocast"): Autocast,
        (torch, "compile"): compiled,
        (torch.accelerator, "is_available"): lambda: False,
        (torch.cuda, "_lazy_init"): lambda: None,
        (torch.cuda, "is_available"): lambda: True,
        (torch.cuda, "device_count"): lambda: len(DEVICES),
        (torch.cuda, "get_device_capability"): lambda device=None: (9, 0),
        (torch.cuda, "get_device_name"): lambda device=None: "pretended",
        (torch.cuda, "mem_get_info"): free,
        (torch.cuda, "empty_cache"): lambda: None,
        (torch.cuda, "synchronize"): gpu.wait,
        (torch.cuda, "get_rng_state"): lambda device="cuda": torch.get_rng_state(),
        (torch.cuda, "set_rng_state"): lambda state, device="cuda": None,
        (torch._C, "_group_tensors_by_device_and_dtype"): grouped(
            torch._C._group_tensors_by_device_and_dtype
        ),
        (threading.Thread, "run"): run_pretending,
    }
    with ExitStack() as stack:
        for (place, name), value in replaced.items():
            stack.enter_context(mock.patch.object(place, name, value))
        stack.enter_context(Calls(gpu))
        stack.enter_context(Operations(gpu))
        yield gpu
