"""The loop language as C99."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from ...ir.types import BOOL, I32, DType
from ..loops.expressions import (
    COMPARISONS,
    Apply,
    Binary,
    Buffer,
    Call,
    Choose,
    Convert,
    Definition,
    Expr,
    Load,
    Native,
    Number,
    Table,
    Unary,
    Variable,
    Wrapping,
    computed,
)  # fmt: skip
from ..loops.statements import Let, Local, Loop, Scratch, Statement, Store, When
from .code import CTYPES, Code, scalar

#: How tightly operators bind in C; what stands alone binds tightest.
_ALONE, _UNARY, _CHOICE, _ANY = 20, 14, 3, 0
_BINDING: Mapping[str, int] = {
    "*": 13, "/": 13, "%": 13, "+": 12, "-": 12, "<<": 11, ">>": 11, "<": 10, "<=": 10, ">": 10, ">=": 10,
    "==": 9, "!=": 9, "&": 8, "|": 6, "and": 5, "or": 4,
}  # fmt: skip
_SYMBOLS = {"and": "&&", "or": "||"}
#: Operators whose operands people, and compilers that warn, want in parentheses if they are operators themselves.
_APART = frozenset(("<<", ">>", "&", "|", "and", "or", *COMPARISONS))

#: Adding 3 * 2^22 leaves no bits for a fraction. Exact floats are needed for that.
_ROUND = "12582912.0f"
_EXACT_FLOATS = """\
#ifdef __FAST_MATH__
#error "compile without -ffast-math"
#endif
"""


class CRenderer:
    """Writes expressions and statements as C text. Tables, helpers and headers go into `code`."""

    def __init__(self, code: Code) -> None:
        self.code = code
        self._scalars: set[Buffer] = set()

    # ---- statements

    def statements(self, statements: Sequence[Statement]) -> str:
        """C statements, one after the other; nobody cares about their indentation."""
        return "".join(self._statement(s) for s in statements)

    def _statement(self, s: Statement) -> str:
        match s:
            case Let(variable, value):
                return f"const {scalar(variable.dtype)} {variable.name} = {self.expression(value)};\n"
            case Local(buffer, start):
                self._scalars.add(buffer)
                return f"{scalar(buffer.dtype)} {buffer.name} = {self.expression(start)};\n"
            case Scratch(buffer):
                return f"{CTYPES[buffer.dtype]} *const {buffer.name} = ({CTYPES[buffer.dtype]} *)(void *)scratch;\n"
            case Store(buffer, index, value):
                stored = CTYPES[buffer.dtype]
                if buffer in self._scalars or scalar(buffer.dtype) == stored:
                    return f"{self._place(buffer, index)} = {self.expression(value)};\n"
                return f"{self._place(buffer, index)} = ({stored}){self.expression(value, _UNARY)};\n"
            case Loop(variable, count, body):
                name = variable.name
                return f"for (int32_t {name} = 0; {name} < {count}; ++{name}) {{\n{self.statements(body)}}}\n"
            case When(condition, body):
                return f"if ({self.expression(condition)}) {{\n{self.statements(body)}}}\n"

    def _place(self, buffer: Buffer, index: Expr) -> str:
        if buffer in self._scalars:
            return buffer.name
        name = self.code.table(buffer.name, buffer.array) if isinstance(buffer, Table) else buffer.name
        return f"{name}[{self.expression(index)}]"

    # ---- expressions

    def expression(self, e: Expr, binding: int = _ANY) -> str:
        """C text, in parentheses where what is around it binds tighter than it does itself."""
        text, own = self._expression(e)
        return text if own >= binding else f"({text})"

    def _expression(self, e: Expr) -> tuple[str, int]:
        match e:
            case Number(dtype, value):
                return (str(int(value)) if dtype == BOOL else self.code.number(value, dtype)), _ALONE
            case Variable(_, name):
                return name, _ALONE
            case Native(_, text):
                return text, _ALONE if re.fullmatch(r"\w+(\[[^][]*\])?", text) else _ANY
            case Load(_, buffer, index):
                return self._place(buffer, index), _ALONE
            case Unary(_, op, operand):
                return self._unary(op, operand)
            case Binary(_, op, left, right):
                return self._binary(op, left, right)
            case Wrapping(dtype, op, left, right):
                return self._wrapping(op, left, right, dtype)
            case Choose(_, condition, then, other):
                texts = [self.expression(part, _CHOICE + 1) for part in (condition, then)]
                return f"{texts[0]} ? {texts[1]} : {self.expression(other, _CHOICE)}", _CHOICE
            case Convert():
                return self._convert(e)
            case Call(_, function, arguments):
                self.code.header("math.h")
                return f"{function}({', '.join(map(self.expression, arguments))})", _ALONE
            case Apply(_, definition, arguments):
                return f"{self._helper(definition)}({', '.join(map(self.expression, arguments))})", _ALONE
        raise TypeError(f"{type(e).__name__} is no expression that C has words for")

    def _unary(self, op: str, operand: Expr) -> tuple[str, int]:
        text = self.expression(operand, _UNARY)
        match op:
            case "isnan":
                return f"{text} != {text}", _BINDING["!="]
            case "round":
                self.code.helper("exact_floats", _EXACT_FLOATS)
                return f"({text} + {_ROUND}) - {_ROUND}", _BINDING["-"]
            case "not":
                return f"!{text}", _UNARY
            case _:
                return f"-{text}", _UNARY

    def _binary(self, op: str, left: Expr, right: Expr) -> tuple[str, int]:
        if op == "<<" and left.dtype.kind == "int":
            # C does not say what it is to shift a negative number.
            factor = f"(({CTYPES[left.dtype]})1 << {self.expression(right, _UNARY)})"
            return f"{self.expression(left, _BINDING['*'])} * {factor}", _BINDING["*"]
        own = _BINDING[op]
        inner = (_UNARY, _UNARY) if op in _APART else (own, own + 1)
        a, b = (self.expression(side, binding) for side, binding in zip((left, right), inner, strict=True))
        return f"{a} {_SYMBOLS.get(op, op)} {b}", own

    def _wrapping(self, op: str, left: Expr, right: Expr, dtype: DType) -> tuple[str, int]:
        """Integers by way of unsigned ones, where C says nothing of signed ones that overflow."""
        if dtype.is_float:
            return self._binary(op, left, right)
        a, b = self.expression(left, _UNARY), self.expression(right, _UNARY)
        if dtype.bits == 8:
            return f"({CTYPES[dtype]})({a} {op} {b})", _UNARY
        unsigned = f"uint{max(dtype.bits, 32)}_t"
        return f"({CTYPES[dtype]})(({unsigned}){a} {op} ({unsigned}){b})", _UNARY

    def _convert(self, e: Convert) -> tuple[str, int]:
        source, target = e.operand.dtype, e.dtype
        same = computed(source) == computed(target)
        # Integers of 8 and 16 bits are computed as int32_t: widening one is nothing to do.
        if same and (e.fits or (target.bits >= source.bits and target == I32)):
            return self._expression(e.operand)
        return f"({CTYPES[target]}){self.expression(e.operand, _UNARY)}", _UNARY

    def _helper(self, definition: Definition) -> str:
        name = definition.name
        parameters = ", ".join(f"{scalar(p.dtype)} {p.name}" for p in definition.parameters)
        says = f"/* {definition.says} */\n" if definition.says else ""
        body = f"return {self.expression(definition.body)};"
        text = f"{says}static inline {scalar(definition.body.dtype)} @{name}({parameters})\n{{\n    {body}\n}}\n"
        return self.code.helper(name, text)
