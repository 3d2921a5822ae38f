"""Classes that others extend by hooks (ops, rules, passes, kernels, targets) refuse a hook that is misspelt.

A misspelt hook would lie dead: the default answers in its place, and nothing says so. So each public name in the body
of a subclass is one of these, or the definition of the class raises TypeError:

- a hook: a public name of the base, or of a parent in between, that is not `@final`;
- a field: annotated, and no ClassVar;
- a declaration for subclasses to fill in: an abstract method, or an annotation without a value;
- a name that the class adds, and says so: `class Linear(Kernel, adds=("tiles",))`. Its subclasses may override it.

Helpers that only the class itself calls begin with an underscore, and are not looked at. Neither are names that are
given later (attributes of instances), nor those of parents that do not extend the base.
"""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from inspect import get_annotations
from typing import Any


class Hooked:
    """Parent of such a base class. The public names of its direct subclasses are the hooks of all others."""

    def __init_subclass__(cls, adds: Sequence[str] = (), **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if Hooked in cls.__bases__:
            return
        base = next(parent.__name__ for parent in cls.__mro__ if Hooked in parent.__bases__)
        inherited: dict[str, Any] = {}
        for parent in reversed(cls.__mro__[1:-1]):
            inherited |= _public(parent)
        own = _public(cls)
        if wrong := [name for name in adds if name not in own or name in inherited]:
            raise TypeError(f"{cls.__name__} says that it adds {', '.join(wrong)}, and does not")
        for name in own:
            if name in inherited and _is_final(inherited[name]):
                raise TypeError(f"{cls.__name__}.{name} overrides what is final in {base}; give it another name")
            if name not in inherited and name not in adds and not _declares(cls, name):
                raise TypeError(_unknown(f"{cls.__name__}.{name}", name, base, inherited))


def _public(cls: type) -> dict[str, Any]:
    """Public names of a class body, with their values; annotations alone have None."""
    names = dict.fromkeys(get_annotations(cls)) | dict(vars(cls))
    return {name: value for name, value in names.items() if not name.startswith("_")}


def _declares(cls: type, name: str) -> bool:
    """Whether the name is a field, or declared for subclasses."""
    kind = get_annotations(cls).get(name)
    if getattr(vars(cls).get(name), "__isabstractmethod__", False):
        return True
    return kind is not None and ("ClassVar" not in str(kind) or name not in vars(cls))


def _is_final(member: Any) -> bool:
    return getattr(getattr(member, "fget", member), "__final__", False)


def _unknown(where: str, name: str, base: str, inherited: dict[str, Any]) -> str:
    hooks = sorted(hook for hook, member in inherited.items() if not _is_final(member))
    near = get_close_matches(name, hooks, 1)
    meant = f"did you mean {near[0]}? Hooks" if near else "hooks"
    return (
        f"{where} is no hook of {base}: {meant} are {', '.join(hooks)}. A helper is named _{name}; "
        f'what others call or override is listed in the class statement: adds=("{name}",)'
    )
