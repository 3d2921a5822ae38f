"""Classes that others extend refuse misspelt hooks, and rules whose two halves do not fit, when they are defined."""

import re
from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import pytest

from planish.backends.kernel import Kernel
from planish.ir.op import Op
from planish.ir.ops.elementwise import add
from planish.ir.rewrite import NodeRule, Rule
from planish.passes.base import Pass, RulePass
from planish.runtime.target import Target

BASES = [Op, Rule, NodeRule, Pass, RulePass, Kernel, Target]
MISSPELT = [
    (Op, "acumulator", "accumulator"),
    (Op, "comutative", "commutative"),
    (Rule, "rewrites", "rewrite"),
    (Rule, "example", "examples"),
    (NodeRule, "replacment", "replacement"),
    (NodeRule, "roots_", "roots"),
    (Pass, "chek", "check"),
    (Pass, "contact", "contract"),
    (RulePass, "rule", "rules"),
    (Kernel, "inplace", "in_place"),
    (Kernel, "op", "ops"),
    (Target, "decompose", "decomposes"),
    (Target, "verified_mac", "verified_macs"),
]


def nothing(self):
    """Does nothing."""


def extended(base, adds=(), **members):
    return type(base)("Extended", (base,), members, adds=adds)


@pytest.mark.parametrize(("base", "name", "meant"), MISSPELT)
def test_a_misspelt_hook_is_refused_with_the_right_one(base, name, meant):
    for member in (nothing, staticmethod(nothing), property(nothing), 3):
        with pytest.raises(TypeError, match=rf"^Extended\.{name} is no hook of \w+: did you mean {meant}\?"):
            extended(base, **{name: member})


@pytest.mark.parametrize("base", BASES)
def test_what_is_no_misspelt_hook_stays_possible(base):
    helped = extended(base, _helper=nothing)
    own = extended(base, adds=("unheard_of",), unheard_of=nothing)
    abstract = extended(base, unheard_of=abstractmethod(lambda self: None))
    for parent in (own, abstract):
        extended(parent, unheard_of=nothing)  # of a parent in between
    declared = extended(base, __annotations__={"unheard_of": "ClassVar[int]"})
    extended(declared, unheard_of=3)
    assert not hasattr(helped, "unheard_of")
    with pytest.raises(TypeError, match=r"unheard_of is no hook of \w+: hooks are .*adds=\(\"unheard_of\",\)"):
        extended(base, unheard_of=nothing)


def test_fields_are_no_hooks_but_class_variables_would_be():
    @dataclass(frozen=True)
    class Equalize(Pass):
        iterations: int = 3

    assert str(Equalize(5)) == "equalize{iterations=5}"
    with pytest.raises(TypeError, match="did you mean contract"):

        class Typo(Pass):
            contact: ClassVar[int] = 3


@pytest.mark.parametrize("base", BASES)
def test_what_a_class_says_that_it_adds_it_does_add(base):
    with pytest.raises(TypeError, match="says that it adds unheard_of, and does not"):
        extended(base, adds=("unheard_of",))


def test_what_every_op_has_alike_is_no_hook():
    for name in ("attributes", "like", "sized", "of_one_batch", "is_composite", "keeps_scale"):
        with pytest.raises(TypeError, match=rf"Extended\.{name} overrides what is final in Op"):
            extended(Op, **{name: nothing})


@pytest.mark.parametrize(
    ("rewrite", "seen"),
    [
        (lambda self, m, x: x, "pattern(x, w), rewrite(m, x)"),
        (lambda self, m, x, v: x, "pattern(x, w), rewrite(m, x, v)"),
        (lambda self, m, x, w, v: x, "pattern(x, w), rewrite(m, x, w, v)"),
        (lambda self, x, w: x, "pattern(x, w), rewrite(x, w)"),
        (staticmethod(lambda m, x, v: x), "pattern(x, w), rewrite(m, x, v)"),
    ],
)
def test_a_rule_whose_halves_name_different_variables_is_refused(rewrite, seen):
    def pattern(self, x, w):
        return add(x, w)

    with pytest.raises(TypeError, match=rf"^Extended names different variables: {re.escape(seen)}"):
        extended(Rule, pattern=pattern, rewrite=rewrite)
    half = extended(Rule, pattern=pattern)  # the other half comes later
    with pytest.raises(TypeError, match="Extended names different variables"):
        extended(half, rewrite=rewrite)


def test_a_variable_that_the_pattern_does_not_use_is_refused():
    rule = extended(Rule, pattern=lambda self, x, w: add(x, 1.0), rewrite=lambda self, m, x, w: x)
    with pytest.raises(TypeError, match=r"^Extended: w does not occur in the pattern"):
        _ = rule().roots


@pytest.mark.parametrize(
    "rewrite",
    [
        lambda self, m, x, w: x,
        lambda self, m, w, x: x,
        lambda self, m, x, **others: x,
        lambda self, m, x, w, more=0: x,
        staticmethod(lambda m, x, w: x),
    ],
)
def test_a_rule_whose_halves_fit_is_taken(rewrite):
    assert extended(Rule, pattern=lambda self, x, w: add(x, w), rewrite=rewrite)().variables == ("x", "w")
