"""Lowered Relax `main` -> Program: tensors over one arena, a list of calls, object code.

Nodes met: parameters, constants, aliases, tuples, `builtin.alloc_tensor`, `reshape`, calls of kernels in
destination-passing style. Anything else would need TVM's runtime and is refused by name.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Container, Sequence
from dataclasses import dataclass

import numpy as np
import tvm
from tvm import relax, tirx
from tvm.ir import Call, GlobalVar, IRModule, Op, Tuple, Var
from tvm.ir.expr import GenericConst

from bhpe_compile.artifact.program import Port, Program, Step, TensorSlot
from bhpe_compile.errors import BhpeError, InputError
from bhpe_compile.passes.lower.memory_plan import aligned, live_ranges, plan
from bhpe_compile.passes.lower.weights import Constant, KernelCall


@dataclass
class Buffer:
    """Bytes of an activation, or a constant: one of the function's, or one that is an input."""

    nbytes: int
    constant: Constant | None


class Walker:
    """Collects buffers, tensor views and calls from the bindings of a lowered function.

    The parameters called as `constants` are weights, the others inputs.
    """

    def __init__(self, func: relax.Function, constants: Container[str]) -> None:
        self.buffers: list[Buffer] = []
        self.views: list[tuple[int, tuple[int, ...], str]] = []
        self.calls: list[tuple[str, list[int]]] = []
        self._values: dict[Var, int | tuple[int, ...]] = {}
        self._constants: dict[tuple[str, tuple[int, ...], bytes], int] = {}
        self.inputs: list[tuple[str, int]] = []
        for param in func.params:
            name = str(param.name)  # TVM has strings of its own
            constant = Constant(name) if name in constants else None
            index = self._fresh(_static_shape(param.ty), str(param.ty.dtype), constant)
            self._values[param] = index
            if constant is None:
                self.inputs.append((name, index))
        for block in func.body.blocks:
            for binding in block.bindings:
                value = binding.value
                self._values[binding.var] = (
                    self._call(value) if isinstance(value, Call) else self._value(value)
                )
        result = self._value(func.body.body)
        self.outputs: tuple[int, ...] = result if isinstance(result, tuple) else (result,)

    def _fresh(self, shape: Sequence[int], dtype: str, constant: Constant | None = None) -> int:
        nbytes = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        self.buffers.append(Buffer(nbytes, constant))
        return self._view(len(self.buffers) - 1, shape, dtype)

    def _view(self, buffer: int, shape: Sequence[int], dtype: str) -> int:
        self.views.append((buffer, tuple(shape), dtype))
        return len(self.views) - 1

    def _value(self, expr: object) -> int | tuple[int, ...]:
        if isinstance(expr, Var):
            return self._values[expr]
        if isinstance(expr, Tuple):
            return tuple(self._tensor(field) for field in expr.fields)
        if isinstance(expr, relax.TupleGetItem):
            items = self._value(expr.tuple_value)
            if isinstance(items, tuple):
                return items[int(expr.index)]
        if isinstance(expr, GenericConst) and isinstance(expr.value, tvm.runtime.Tensor):
            array = np.ascontiguousarray(expr.value.numpy())
            key = (array.dtype.str, array.shape, array.tobytes())
            if key not in self._constants:
                self._constants[key] = self._fresh(array.shape, str(array.dtype), Constant("", key[2]))
            return self._constants[key]
        raise InputError(f"the lowered model holds {type(expr).__name__}, which needs TVM's runtime: {expr}")

    def _tensor(self, expr: object) -> int:
        value = self._value(expr)
        if isinstance(value, tuple):
            raise InputError(f"a tuple where one tensor is needed: {expr}")
        return value

    def _call(self, call: Call) -> int | tuple[int, ...]:
        if isinstance(call.op, GlobalVar):
            self.calls.append((str(call.op.name_hint), [self._tensor(a) for a in call.args]))
            return ()
        if isinstance(call.op, relax.ExternFunc):
            self.calls.append((str(call.op.global_symbol), [self._tensor(a) for a in call.args]))
            return ()
        name = call.op.name if isinstance(call.op, Op) else type(call.op).__name__
        if name == "relax.builtin.alloc_tensor":
            return self._fresh([_static(d) for d in call.args[0].values], str(call.args[1].value))
        if name == "relax.reshape":  # same bytes, other shape
            buffer, _, dtype = self.views[self._tensor(call.args[0])]
            return self._view(buffer, _static_shape(call.ty), dtype)
        raise InputError(f"operation {name} needs TVM's runtime; it cannot be compiled into an artefact")


def _static(extent: object) -> int:
    if not isinstance(extent, tirx.IntImm):
        raise InputError(f"dynamic dimension {extent}: export the model with a fixed batch of 1")
    return int(extent)


def _static_shape(ty: object) -> tuple[int, ...]:
    if not isinstance(ty, relax.TensorType) or ty.shape is None:
        raise InputError(f"not a tensor of static shape: {ty}")
    return tuple(_static(d) for d in ty.shape)


def emit(
    module: IRModule,
    calls: Sequence[KernelCall],
    output_names: Sequence[str],
    prefix: str,
    objects: tuple[bytes, ...],
    workspace: int,
    constants: Container[str] = (),
) -> tuple[Program, tuple[Constant, ...]]:
    """Lay out memory and write the call table; `calls` are our kernels in the order they were imported.

    constants: parameters of `main` that are weights. The program's own are left out: the second result says which they
    are, one behind the other.
    """
    walk = Walker(module["main"], constants)
    used = [[walk.views[a][0] for a in args] for _, args in walk.calls]
    constant = {i for i, b in enumerate(walk.buffers) if b.constant is not None}
    pinned = [walk.views[t][0] for _, t in walk.inputs] + [walk.views[t][0] for t in walk.outputs]
    live = live_ranges(used, [b for b in pinned if b not in constant])
    sizes = {i: b.nbytes for i, b in enumerate(walk.buffers)}
    offsets, arena = plan(sizes, {b: r for b, r in live.items() if b not in constant})
    layout, end = [], 0
    for index in sorted(constant & set(live)):
        buffer = walk.buffers[index]
        if buffer.constant is not None:
            layout.append(buffer.constant)
            offsets[index] = end
            end += aligned(buffer.nbytes)
    kept = [i for i, (buffer, _, _) in enumerate(walk.views) if buffer in offsets]
    renumber = {old: new for new, old in enumerate(kept)}
    tensors = tuple(
        TensorSlot("weights" if b in constant else "arena", offsets[b], sizes[b], shape, dtype)
        for b, shape, dtype in (walk.views[i] for i in kept)
    )
    program = Program(
        tensors=tensors,
        steps=tuple(_steps(walk, calls, prefix, renumber)),
        inputs=tuple(Port(name, renumber[t]) for name, t in walk.inputs),
        outputs=tuple(Port(n, renumber[t]) for n, t in zip(output_names, walk.outputs, strict=True)),
        arena_bytes=arena,
        workspace_bytes=workspace,
        weights=b"",
        objects=objects,
    )
    return program, tuple(layout)


def _steps(walk: Walker, calls: Sequence[KernelCall], prefix: str, renumber: dict[int, int]) -> list[Step]:
    """TVM keeps the order of opaque calls: the k-th call of a symbol is the k-th recorded one."""
    waiting: dict[str, deque[KernelCall]] = defaultdict(deque)
    for call in calls:
        waiting[call.symbol].append(call)
    steps = []
    for symbol, args in walk.calls:
        indices = tuple(renumber[a] for a in args)
        if symbol in waiting:
            if not waiting[symbol]:
                raise BhpeError(f"internal: kernel {symbol} is called more often than recorded")
            call = waiting[symbol].popleft()
            steps.append(Step(prefix + symbol, call.kind, call.layer, indices, call.roles, call.parallel))
        else:
            roles = tuple(f"arg{k}" for k in range(len(args)))
            steps.append(Step(prefix + symbol, "glue", "", indices, roles))
    lost = sorted(symbol for symbol, left in waiting.items() if left)
    if lost:
        raise BhpeError(f"internal: recorded calls of {', '.join(lost)} are missing after lowering")
    return steps
