"""Running a network once and writing down, as ONNX, every operation that depends on its input.

torch hands each operation, after its own simplification, to the active dispatch mode: about fifty kinds for our
networks, which the table in `operations` writes down. What does not depend on the input (coordinates, constants) is
computed on the way and becomes an initializer. The values that pass through are those of a normal run, so the outputs
serve as reference. An operation without an entry does not stop the run; `refusal` names it, and there is no model.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from typing import Any

import onnx_ir as ir
import torch
from torch import Tensor, fx
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import WeakTensorKeyDictionary

from bhpe_compile.exchange.attributes import attributes_of
from bhpe_compile.exchange.functions import DOMAIN, OPSET, VERSION

_TYPES = {torch.float32: ir.DataType.FLOAT, torch.int64: ir.DataType.INT64, torch.bool: ir.DataType.BOOL}
_SHAPED_ONLY = ("full_like", "zeros_like", "ones_like")
"""Operations that read nothing of their argument but its shape."""

Operand = ir.Value | None


class UnsupportedError(Exception):
    """An operation, or a form of one, that the table does not know."""


class Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Records what `graph` does while the mode is active; `begin` names the input, `finish` the outputs."""

    def __init__(self, graph: fx.GraphModule, table: Mapping[str, Callable[..., None]]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.refusal: str | None = None
        self.broken: str | None = None
        """The first parameter whose operation gave NaN or infinity. Others may: masks are infinite."""
        self._table = table
        self._names: MutableMapping[Tensor, str] = WeakTensorKeyDictionary()
        for name, tensor in (*graph.named_parameters(), *graph.named_buffers()):
            self._names[tensor] = name
        # None: computed from the input, but not recorded
        self._values: MutableMapping[Tensor, Operand] = WeakTensorKeyDictionary()
        # constant -> what it is the transposed of
        self._transposed: MutableMapping[Tensor, Tensor] = WeakTensorKeyDictionary()
        self._initializers: dict[str, ir.Value] = {}
        self._nodes: list[ir.Node] = []
        self._inputs: list[ir.Value] = []

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """torch's question whether its compiler must be told to keep out, for which it would import all of it."""
        return False

    # ---- what the table's functions use -------------------------------------------------------------------

    def value(self, tensor: Any, dtype: torch.dtype | None = None) -> ir.Value:
        """The ONNX value of a tensor; a constant (or number) becomes an initializer, of `dtype` where given."""
        if isinstance(tensor, Tensor) and tensor in self._values:
            found = self._values[tensor]
            if found is None or (dtype is not None and tensor.dtype != dtype):
                raise UnsupportedError("a result of another operation that is not recorded, or another type")
            return found
        name = self._names.get(tensor, "") if isinstance(tensor, Tensor) else ""
        if name in self._initializers:
            return self._initializers[name]
        constant = torch.as_tensor(tensor, dtype=dtype).detach().contiguous()
        if constant.dtype not in _TYPES:
            raise UnsupportedError(f"constants of type {constant.dtype}")
        name = name or f"constant_{len(self._initializers)}"
        value = ir.val(name, const_value=ir.Tensor(constant.numpy(), name=name))
        self._initializers[name] = value
        return value

    def ints(self, *numbers: int) -> ir.Value:
        """An int64 vector."""
        return self.value(torch.tensor(numbers, dtype=torch.int64))

    def emit(
        self, kind: str, inputs: Sequence[Operand], *results: Tensor, domain: str = "", **attributes: Any
    ) -> None:
        """One node whose outputs are the values of `results`."""
        values = []
        for result in results:
            if result.dtype not in _TYPES:
                raise UnsupportedError(f"values of type {result.dtype}")
            kind_of = ir.TensorType(_TYPES[result.dtype])
            values.append(ir.val(None, type=kind_of, shape=tuple(result.shape)))
        name = f"{kind}_{len(self._nodes)}"
        for index, value in enumerate(values):
            value.name = f"{name}.{index}" if index else f"{name}.out"
        self._nodes.append(
            ir.Node(domain, kind, list(inputs), attributes_of(attributes), outputs=values, name=name)
        )
        for result, value in zip(results, values, strict=True):
            self._values[result] = value

    def alias(self, tensor: Tensor, result: Tensor) -> None:
        """`result` is the same value."""
        self._values[result] = self.value(tensor)

    def transposed(self, tensor: Tensor) -> Tensor | None:
        """The constant matrix that `tensor` is the transposed of."""
        return self._transposed.get(tensor)

    def name_of(self, tensor: Tensor) -> str | None:
        """What a value that was recorded is called; None for any other."""
        value = self._values.get(tensor)
        return None if value is None else value.name

    # ---- the run ------------------------------------------------------------------------------------------

    def begin(self, tensor: Tensor, name: str) -> None:
        """`tensor` is the input of the network."""
        value = ir.val(name, type=ir.TensorType(_TYPES[tensor.dtype]), shape=tuple(tensor.shape))
        self._inputs.append(value)
        self._values[tensor] = value

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        options = kwargs or {}
        result = func(*args, **options)
        results = [r for r in (result if isinstance(result, tuple | list) else (result,)) if _is_tensor(r)]
        if self.broken is None:
            self.broken = next(
                (self._names[a] for a in _tensors(args) if a in self._names and not _finite(results)), None
            )
        name = func._schema.name.partition("::")[2]
        if not any(tensor in self._values for tensor in _tensors(args)) or name in _SHAPED_ONLY:
            if name == "t":
                self._transposed[result] = args[0]
            return result
        try:
            if func._schema.is_mutable:
                raise UnsupportedError("it changes its argument")
            if str(func) not in self._table:
                raise UnsupportedError("it has no entry in the table")
            write = self._table[str(func)]
            _require_parameters(write, (self, result, *args), options)
            write(self, result, *args, **options)
        except UnsupportedError as problem:
            self.refusal = self.refusal or f"{func}: {problem}"
        for tensor in results:
            if tensor not in self._values:
                self._values[tensor] = None
        return result

    def finish(self, outputs: Mapping[str, Tensor]) -> ir.Model:
        """The model of all that was recorded. UnsupportedError when an operation was not."""
        if self.refusal is not None:
            raise UnsupportedError(self.refusal)
        values: list[ir.Value] = []
        for name, tensor in outputs.items():
            value = self.value(tensor)
            if value.producer() is None or any(value is other for other in values):
                self.emit("Identity", [value], tensor)
                value = self.value(tensor)
            value.name = name
            values.append(value)
        graph = ir.Graph(
            self._inputs,
            values,
            nodes=self._nodes,
            initializers=list(self._initializers.values()),
            opset_imports={"": OPSET, DOMAIN: VERSION},
            name="bhpe",
        )
        return ir.Model(graph, ir_version=10)


_signature = functools.cache(inspect.signature)


def _require_parameters(
    write: Callable[..., None], args: tuple[Any, ...], options: Mapping[str, Any]
) -> None:
    """UnsupportedError where the table's function has no parameter for one of the arguments."""
    try:
        _signature(write).bind(*args, **options)
    except TypeError as problem:
        raise UnsupportedError(f"the table has no such form of it ({problem})") from None


def _finite(tensors: Sequence[Tensor]) -> bool:
    return all(bool(torch.isfinite(one).all()) for one in tensors if one.is_floating_point())


def _is_tensor(value: object) -> bool:
    return isinstance(value, Tensor)


def _tensors(args: Sequence[Any]) -> list[Tensor]:
    lists = [a for a in args if isinstance(a, list | tuple)]
    return [a for a in (*args, *(item for one in lists for item in one)) if _is_tensor(a)]
