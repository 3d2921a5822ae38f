from dataclasses import dataclass
from typing import Literal
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planish import passes
from planish.ir.errors import InvalidGraphError, PlanishError, UsageError
from planish.ir.ops.elementwise import clip, relu
from planish.ir.rewrite import replace_value
from planish.ir.text import print_graph
from planish.passes import pass_named, register
from planish.passes.base import Changes, Pass
from planish.passes.layout import Layout
from planish.passes.listeners import PrintAfter
from planish.passes.pipeline import Pipeline, parse_pipeline, run_pipeline
from planish.passes.simplify import Simplify
from planish.runtime.contracts import EXACT, REASSOCIATING, within
from tests.support.passes import graph_of, ops, x_input


@dataclass(frozen=True)
class Tried(Pass):
    """Every kind of option."""

    contract = within(2)
    flag: bool = False
    count: int = 0
    ratio: float = 0.5
    word: str = ""
    mode: Literal["fast", "small"] = "fast"
    limit: int | None = None
    names: tuple[str, ...] = ()

    def run(self, graph, context):
        return Changes()


@dataclass(frozen=True)
class Demanding(Pass):
    """An option without default."""

    ratio: float


@dataclass(frozen=True)
class Broken(Pass):
    """Fails in one way or another."""

    how: str = "raise"

    def run(self, graph, context):
        node = next(n for n in graph.nodes if n.op.name == "clip")
        if self.how == "raise":
            graph.prune_from(list(graph.nodes))
            graph.replace(node.result, graph.inputs[0])
            raise ZeroDivisionError("oh")
        if self.how == "usage":
            raise UsageError("no data")
        node.result.type = node.result.type.with_shape((7,))  # a graph that no verifier accepts
        return Changes()


@pytest.fixture(autouse=True, scope="module")
def passes_of_this_file():
    with patch.dict(passes._catalog.ours):
        for each in (Tried, Demanding, Broken):
            register(each)
        yield


tried = st.builds(
    Tried,
    flag=st.booleans(), count=st.integers(-9, 9), ratio=st.floats(allow_nan=False), word=st.text(max_size=5),
    mode=st.sampled_from(["fast", "small"]), limit=st.none() | st.integers(), names=st.lists(st.text()).map(tuple),
)  # fmt: skip


@given(st.lists(tried | st.sampled_from([Simplify(), Layout(), Layout("nchw")]), max_size=4))
def test_text_round_trips(drawn):
    pipeline = Pipeline(tuple(drawn))
    assert parse_pipeline(str(pipeline)) == pipeline


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ()),
        ("tried", (Tried(),)),
        (" tried { flag = true , count=-3 } ,\n tried{}", (Tried(flag=True, count=-3), Tried())),
        ('tried{word="a, }\\"b",names=[a,"b c"],limit=none}', (Tried(word='a, }"b', names=("a", "b c")),)),
        ("tried{names=one,ratio=1e-3,mode=small,limit=7}", (Tried(ratio=1e-3, mode="small", limit=7, names=("one",)),)),
        ("demanding{ratio=1}", (Demanding(1.0),)),
    ],
)
def test_parsing(text, expected):
    assert parse_pipeline(text).passes == expected


@pytest.mark.parametrize(
    ("text", "column", "words"),
    [
        ("simplify,", 10, "something is missing"),
        ("simplify,,fuse", 10, "not understood"),
        ("simplify fuse", 10, "not understood"),
        ("simplify{", 10, "something is missing"),
        ("simplfy", 1, "did you mean simplify? passes are "),
        (
            "tried{flags=true}",
            7,
            "did you mean flag? tried{flag=bool, count=int, ratio=float, word=str, mode=fast|small",
        ),
        ("tried{flag=yes}", 12, "true or false, not yes"),
        ("tried{count=1.5}", 13, "a whole number, not 1.5"),
        ("tried{ratio=half}", 13, "a number, not half"),
        ("tried{mode=slow}", 12, "fast or small, not slow"),
        ("tried{count=[1]}", 14, "not a list"),
        ('tried{word="\\q"}', 12, "a quotation is wrong"),
        ("tried{flag=true,flag=true}", 17, "twice"),
        ("simplify,demanding", 10, "needs ratio"),
        ("simplify,quantize{io=int3}", 22, "io of quantize is float or int8"),
    ],
)
def test_errors_point_at_the_character(text, column, words):
    with pytest.raises(UsageError) as caught:
        parse_pipeline(text)
    said = str(caught.value)
    assert f"character {column}\n" in said
    assert words in said
    assert "Traceback" not in said
    arrow = next(line for line in said.splitlines() if line.strip() == "^")
    assert arrow.index("^") - 4 == column - 1


def test_names_are_taken_once():
    @dataclass(frozen=True)
    class Impostor(Pass):
        name = "simplify"

    with pytest.raises(ValueError, match="simplify is taken"):
        register(Impostor)
    assert pass_named("simplify") is not Impostor
    assert pass_named("nothing") is None


def chain():
    return graph_of(clip(relu(x_input(2)), lo=-1.0))


def test_the_graph_that_is_given_stays():
    graph = chain()
    before = print_graph(graph)[0]
    result = run_pipeline(graph, "simplify")
    assert print_graph(graph)[0] == before
    assert (ops(graph), ops(result.graph)) == (["clip", "clip"], ["clip"])
    (step,) = result.steps
    assert step.seconds >= 0
    assert step.changes.applied == {"ClipOfClip": 1}


@pytest.mark.parametrize(
    ("how", "error", "code"), [("raise", PlanishError, 1), ("usage", UsageError, 2), ("corrupt", InvalidGraphError, 1)]
)
def test_a_failing_pass_is_named_and_leaves_no_trace(how, error, code):
    graph = chain()
    before = print_graph(graph)[0]
    with pytest.raises(error, match=r"pass broken") as caught:
        run_pipeline(graph, [Broken(how)])
    assert caught.value.code == code
    assert print_graph(graph)[0] == before


def test_contracts_add_up():
    assert parse_pipeline("simplify,group").contract == EXACT
    assert parse_pipeline("simplify,fuse,tried,tried").contract == within(2) | within(2)
    assert run_pipeline(chain(), "simplify,fuse,tried").contract == EXACT, "what changed nothing promises nothing"
    assert parse_pipeline("fuse,simplify").contract == REASSOCIATING


def test_print_after():
    lines = []
    run_pipeline(chain(), "simplify,fuse", listeners=[PrintAfter(lines.append)])
    text = "".join(lines)
    assert text.startswith("// after simplify\ngraph @main(")
    assert text.endswith("// after fuse (nothing changed)\n")


def test_replacing_a_value_by_another_type_is_refused():
    graph = chain()
    with pytest.raises(InvalidGraphError, match="changes the type"):
        replace_value(graph, graph.outputs[0], x_input(3), because="a rule")
