"""Recurrent layers, rolled: one loop over the steps, whatever their number."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ....ir.graph import Value
from ....ir.ops.recurrent import Gru, Lstm, Recurrent, Rnn
from ....ir.types import F32, Array
from ...group import Group, uniform
from ..code import Code
from ..elements import larger, sigmoid
from ..epilogue import Position
from ..expressions import Buffer, Expr, call, dense_strides, flat, number, table
from ..kernel import LoopKernel
from .reduce import accumulate


@dataclass(frozen=True)
class Step:
    """One step of one sequence in one direction. d, n, t: which direction, sequence and place in x.

    work: the states [states,H] of the sequence, then its gates [G*H].
    """

    group: Group
    code: Code
    work: Buffer
    d: Expr
    n: Expr
    t: Expr

    @property
    def op(self) -> Recurrent:
        op: Recurrent = self.group.op
        return op

    @property
    def hidden(self) -> int:
        return self.group.shape(self.group.anchor.operands[2])[2]

    @property
    def gates(self) -> int:
        """Where the gates begin in `work`."""
        return self.op.states * self.hidden

    def load(self, index: Any) -> Expr:
        return self.code.load(self.work, index)

    def of_x(self, acc: Buffer, row: Expr) -> None:
        """Acc += this step's x times a row of w."""
        x, w = self.group.anchor.operands[:2]
        steps = dense_strides(self.group.shape(x))
        source, first = self.code.operand(x), flat((self.t, self.n), steps[:2])
        self._product(acc, w, row, lambda k: self.code.load(source, first + k))

    def of_state(self, acc: Buffer, row: Expr, first: int = 0) -> None:
        """Acc += a vector of `work`, from `first` on, times a row of r."""
        self._product(acc, self.group.anchor.operands[2], row, lambda k: self.load(k + first))

    def _product(self, acc: Buffer, weights: Value, row: Expr, element: Callable[[Expr], Expr]) -> None:
        _, rows, inputs = self.group.shape(weights)
        array = self.group.constant(weights)
        source, by_row, by_input = self.code.operand(weights), inputs, 1
        if array is not None:  # rows side by side, as lanes want them
            source, by_row, by_input = table(array.transpose(0, 2, 1), "weights"), 1, rows

        def term(k: Expr) -> Expr:
            return element(k) * self.code.load(source, flat((self.d, row, k), (rows * inputs, by_row, by_input)))

        accumulate(self.code, acc, inputs, term)

    def bias(self, row: Expr, of_w: bool = True, of_r: bool = True) -> Expr:
        """The biases of a row: of the products with x, with the state, or of both."""
        value = self.group.anchor.operands[3]
        array, rows = self.group.constant(value), self.op.gates * self.hidden
        if array is None:
            source, first = self.code.operand(value), self.d * (2 * rows) + row
            parts = [self.code.load(source, first + i * rows) for i, yes in enumerate((of_w, of_r)) if yes]
            return parts[0] if len(parts) == 1 else parts[0] + parts[1]
        halves = array[:, :rows], array[:, rows:]
        chosen = halves[0] + halves[1] if of_w and of_r else halves[0] if of_w else halves[1]
        return _element(self.code, chosen, "bias", self.d * rows + row)

    def sums(self, rows: int, first: int = 0, state: int = 0, then: Callable[[Expr], Expr] = lambda acc: acc) -> None:
        """Gates `first` to `first + rows`: then(x w + h r + b). state: where in `work` that h begins."""
        with self.code.lanes(rows) as j:
            acc = self.code.local(F32, self.bias(j + first))
            self.of_x(acc, j + first)
            self.of_state(acc, j + first, state)
            self.code.store(self.work, j + (self.gates + first), then(self.code.load(acc, 0)))


class RecurrentKernel(LoopKernel):
    """For each direction and sequence, step by step: all gates from the state, then the state from the gates."""

    def scratch(self, group: Group) -> int:
        op, hidden = group.op, group.shape(group.anchor.operands[2])[2]
        return (op.states + op.gates) * hidden * F32.bits // 8

    @abstractmethod
    def step(self, at: Step) -> None:
        """Write one step: the states in `at.work` become the next ones."""

    def write(self, group: Group, code: Code) -> None:
        op, anchor = group.op, group.anchor
        steps, directions, batch, hidden = shape = group.shape(anchor.results[0])
        starts, work = anchor.operands[4:], code.scratch(F32)
        with code.loop(directions) as d, code.loop(batch) as n:
            place = flat((d, n, 0), dense_strides(shape)[1:])
            with code.lanes(hidden) as j:
                for i, start in enumerate(starts):
                    code.store(work, j + i * hidden, _start(group, code, start, place + j))
            with code.loop(steps) as s:
                backwards = steps - 1 - s
                t = backwards if op.reverse else s if directions == 1 else s + d * (backwards - s)
                self.step(Step(group, code, work, d, n, t))
                if group.result in group.results:
                    with code.lanes(hidden) as j:
                        code.result(Position.of((t, d, n, j), shape), code.load(work, j))
            for i, last in enumerate(anchor.results[1:]):
                if (kept := code.written(last)) is not None:
                    with code.lanes(hidden) as j:
                        code.store(kept, place + j, code.load(work, j + i * hidden))


class LstmKernel(RecurrentKernel):
    """Gates: input, output, forget, cell. States: h, c."""

    name = "lstm"
    ops = (Lstm,)

    def step(self, at: Step) -> None:
        hidden, gates = at.hidden, at.gates
        at.sums(4 * hidden)
        with at.code.lanes(hidden) as j:
            i, o, f, g = (at.load(j + (gates + k * hidden)) for k in range(4))
            cell = j + hidden
            at.code.store(at.work, cell, sigmoid(f) * at.load(cell) + sigmoid(i) * call("tanhf", g))
            at.code.store(at.work, j, sigmoid(o) * call("tanhf", at.load(cell)))


class GruKernel(RecurrentKernel):
    """Gates: update, reset, candidate. State: h."""

    name = "gru"
    ops = (Gru,)

    def step(self, at: Step) -> None:
        hidden, code = at.hidden, at.code
        update, reset, candidate = (at.gates + k * hidden for k in range(3))
        at.sums(2 * hidden, then=sigmoid)
        if at.group.op.reset_after:
            with code.lanes(hidden) as j:
                row = j + 2 * hidden
                recurrent = code.local(F32, at.bias(row, of_w=False), "recurrent")
                at.of_state(recurrent, row)
                acc = code.local(F32, at.bias(row, of_r=False))
                at.of_x(acc, row)
                total = code.load(acc, 0) + at.load(j + reset) * code.load(recurrent, 0)
                code.store(at.work, j + candidate, call("tanhf", total))
        else:
            with code.lanes(hidden) as j:
                code.store(at.work, j + reset, at.load(j + reset) * at.load(j))
            at.sums(hidden, 2 * hidden, reset, lambda acc: call("tanhf", acc))
        with code.lanes(hidden) as j:
            kept = at.load(j + update)
            code.store(at.work, j, (1 - kept) * at.load(j + candidate) + kept * at.load(j))


class RnnKernel(RecurrentKernel):
    """One gate, which is the next state."""

    name = "rnn"
    ops = (Rnn,)

    def step(self, at: Step) -> None:
        def activated(acc: Expr) -> Expr:
            return larger(number(0.0, F32), acc) if at.group.op.relu else call("tanhf", acc)

        at.sums(at.hidden, then=activated)
        with at.code.lanes(at.hidden) as j:
            at.code.store(at.work, j, at.load(j + at.gates))


def _start(group: Group, code: Code, value: Value, index: Expr) -> Expr:
    """An element of a state at the start."""
    array = group.constant(value)
    return code.load(code.operand(value), index) if array is None else _element(code, array, "start", index)


def _element(code: Code, array: Array, label: str, index: Expr) -> Expr:
    """An element of a constant: a number, where all are one."""
    fixed = uniform(array)
    return number(fixed, F32) if fixed is not None else code.load(table(array, label), index)
