"""Code that nothing but tests calls is dead: each name of a module stands at least once more, in sources or tools."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping

from tests.house.test_layers import FACE, ROOT, SOURCES

DEFINITION = re.compile(r"^(?P<decorated>@.*\n)?(?:def (\w+)|class (\w+)|([A-Za-z_]\w*)(?:: .+)? = )", re.MULTILINE)
#: What is there for the tests of others: nothing of ours has to call it.
FOR_OTHERS = ROOT / "src/planish/testing"


def definitions(text: str) -> Iterator[str]:
    """Names that a module defines, behind its docstring; but for what is decorated, which may register it."""
    for found in DEFINITION.finditer(text.split('"""', 2)[-1]):
        name = next(filter(None, found.groups()[1:]))
        if not found["decorated"] and not name.startswith("__"):
            yield name


def dead(sources: Mapping[str, str], others: str = "") -> list[str]:
    """Names that stand nowhere but where they are defined."""
    words = Counter(re.findall(r"\w+", "\n".join((*sources.values(), others))))
    return [f"{path}: {name}" for path, text in sources.items() for name in definitions(text) if words[name] == 1]


def test_nothing_is_there_for_tests_alone():
    ours = {str(p.relative_to(ROOT)): p.read_text() for p in SOURCES + FACE if not p.is_relative_to(FOR_OTHERS)}
    folders = [ROOT / folder for folder in ("tools", "bench", "docs", "examples")] + [FOR_OTHERS]
    assert dead(ours, "\n".join(p.read_text() for folder in folders for p in sorted(folder.rglob("*.py")))) == []


def test_dead_code_is_seen():
    source = '"""Some module.\n\nclass Example: pass\n"""\ndef f(): pass\nA = 1\nB: int = 2\ndef g(): return h\n'
    source += "class C: pass\nT = {'c': 'm:C'}\n@op\ndef h(): return B\ndef __dir__(): pass\n"
    assert dead({"m.py": source}, "g()") == ["m.py: f", "m.py: A", "m.py: T"]
