"""What the documents say is so: their commands run, and what they name exists."""

import re
import shlex
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from planish import passes
from planish.ir import ops

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
CONSOLE = re.compile(r"^```console\n(.*?)^```$", re.DOTALL | re.MULTILINE)
LAYERS = ("ir", "runtime", "frontends", "passes", "backends")


def blocks(name):
    return CONSOLE.findall((DOCS / name).read_text())


def commands(block):
    """(command, what it prints) of a console block; a command may go on after a backslash."""
    parts = re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]
    for part in parts:
        lines = part.splitlines()
        end = next(i for i, line in enumerate(lines) if not line.endswith("\\"))
        yield " ".join(line.removesuffix("\\").strip() for line in lines[: end + 1]), lines[end + 1 :]


@pytest.fixture
def folder(tmp_path, digits, monkeypatch):
    for file in (*digits.iterdir(), *(DOCS / "tutorials").iterdir()):
        if file.suffix in (".onnx", ".npz") or (file.parent.name == "tutorials" and file.suffix == ".py"):
            shutil.copy(file, tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


#: What a page with blocks that are run and not compared wants on this machine.
PAGES = {
    "README.md": ("cc", "make", "arm-none-eabi-gcc", "qemu-system-arm"),
    "docs/kernels.md": (),
    "docs/extending.md": (),
    "docs/tutorials/write-a-pass.md": ("cc",),
    "docs/tutorials/optimize-onnx.md": (),
}
#: Blocks of a page by language. tests/passes/test_docs.py runs the Python of the tutorial on passes.
FENCED = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
SCRIPT = {"console", "sh", "python"}


def documents():
    return [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]


def test_every_block_of_code_says_what_it_is_and_is_run():
    """Those of `console` are compared with what is printed; what is indented is notation, and no command."""
    command = re.compile(r"^ {4}(planish|pip|make|apt-get|python3?|import|from|class|def|@\w+|\$) ?\b", re.MULTILINE)
    for document in documents():
        text = document.read_text()
        name = str(document.relative_to(ROOT))
        languages = {language for language, _ in FENCED.findall(text)}
        assert languages <= {*SCRIPT, "text"}, name
        assert not command.findall(FENCED.sub("", text)), f"{name}: a block that is not fenced, so that nothing runs it"
        assert not languages & {"sh", "python"} or name in PAGES, f"{name} has blocks that nothing runs"


@pytest.mark.parametrize("page", PAGES)
def test_the_blocks_of_a_page_run(planish, folder, require_tool, monkeypatch, page):
    for tool in PAGES[page]:
        require_tool(tool)
    shutil.copy("dscnn.onnx", "model.onnx")
    monkeypatch.syspath_prepend(folder)
    for module in (passes, ops):  # each page brings its passes and ops anew
        monkeypatch.setattr(module, "_catalog", replace(module._catalog, ours=dict(module._catalog.ours)))
    namespace = {"__name__": "page"}
    for language, block in FENCED.findall((ROOT / page).read_text()):
        if language == "sh":
            for line in block.replace("\\\n", " ").splitlines():
                executed(planish, folder, line)
        elif language == "python" and page != "docs/tutorials/write-a-pass.md":
            exec(compile(block, page, "exec"), namespace)


def executed(planish, folder, line):
    """Run a command of planish; of make, see whether there is such a target. Nothing is installed."""
    program, *arguments = shlex.split(line, comments=True)
    if program == "make":
        done = subprocess.run(["make", "-n", *arguments], cwd=ROOT, check=False, capture_output=True)
        assert done.returncode == 0, line
    elif program != "apt-get":
        assert program == "planish", line
        done = planish(*arguments)
        assert done.code == 0, (line, done.err)


def run(planish, folder, command):
    """All that a command prints, as lines, with the exit code where it is not 0."""
    program, *arguments = shlex.split(command)
    if program != "planish":
        done = subprocess.run(command, shell=True, cwd=folder, capture_output=True, text=True, check=True)
        return done.stdout.splitlines()
    done = planish(*arguments)
    text = (done.out + done.err).replace(f"{folder}/", "")
    return [*text.splitlines(), *([f"[exit code {done.code}]"] if done.code else [])]


NUMBER = re.compile(r"\d+(?:[,.]\d+)*")


def alike(expected, found):
    """The same words, and figures that have drifted by no more than a quarter."""
    if NUMBER.sub("#", expected) != NUMBER.sub("#", found):
        return False
    figures = ([float(n.replace(",", "")) for n in NUMBER.findall(text)] for text in (expected, found))
    return all(abs(a - b) <= a / 4 for a, b in zip(*figures, strict=True))


def matches(expected, found):
    """Line by line; a line `...` stands for any number of lines."""
    at = 0
    for k, line in enumerate(expected):
        if line == "...":
            continue
        skips = range(at, len(found)) if k and expected[k - 1] == "..." else range(at, min(at + 1, len(found)))
        hit = next((i for i in skips if alike(line, found[i])), None)
        if hit is None:
            return False
        at = hit + 1
    return at == len(found) or expected[-1:] == ["..."]


@pytest.mark.parametrize("block", blocks("errors.md"), ids=lambda block: block.splitlines()[0][2:60])
def test_the_errors_are_as_documented(planish, folder, block):
    for command, expected in commands(block):
        assert run(planish, folder, command) == expected


def test_the_commands_for_npu_programs_do_what_their_page_says(planish, folder):
    for block in blocks("npu.md"):
        for command, expected in commands(block):
            found = run(planish, folder, command)
            assert matches(expected, found), (command, found)


TUTORIALS = {
    "deploy.md": ("cc", "arm-none-eabi-gcc", "qemu-system-arm"),
    "debug.md": ("cc", "arm-none-eabi-gcc", "qemu-system-arm"),
    "optimize-onnx.md": (),
}


def test_every_tutorial_is_run():
    assert {p.name for p in (DOCS / "tutorials").glob("*.md")} == {*TUTORIALS, "write-a-pass.md"}
    # That one is Python: tests/passes/test_docs.py runs it.


@pytest.mark.parametrize("tutorial", TUTORIALS)
def test_the_tutorial_runs(planish, folder, require_tool, tutorial):
    for tool in TUTORIALS[tutorial]:
        require_tool(tool)
    if tutorial == "optimize-onnx.md":
        pytest.importorskip("onnxruntime")
    for block in blocks(f"tutorials/{tutorial}"):
        for command, expected in commands(block):
            found = run(planish, folder, command)
            assert matches(expected, found), (command, found)


def test_every_exit_code_is_documented():
    from planish.ir import errors

    kinds = {k.code for k in vars(errors).values() if isinstance(k, type) and issubclass(k, errors.PlanishError)}
    documented = {int(n) for n in re.findall(r"^\| (\d+) \|", (DOCS / "errors.md").read_text(), re.MULTILINE)}
    assert documented == kinds | {0, 130}


ARCHITECTURE = DOCS / "architecture.md"
PATHS = re.compile(rf"`((?:{'|'.join(LAYERS)}|src|tests|docs|examples|tools)/[\w./-]*)`")


def test_the_architecture_names_what_exists():
    named = PATHS.findall(ARCHITECTURE.read_text())
    assert len(named) > 30
    assert [path for path in named if not (ROOT / path).exists()] == []


def test_the_architecture_names_every_package_and_module_of_the_inner_layers():
    named = set(PATHS.findall(ARCHITECTURE.read_text()))
    packages = {f"{layer}/" for layer in LAYERS}
    packages |= {str(p.relative_to(ROOT)) + "/" for layer in LAYERS for p in (ROOT / layer).glob("*/") if has_code(p)}
    assert sorted(packages - named) == []
    modules = {str(p.relative_to(ROOT)) for layer in ("ir", "runtime") for p in (ROOT / layer).glob("*.py")}
    assert sorted(modules - named - {"ir/__init__.py", "runtime/__init__.py"}) == []


def has_code(folder):
    return (folder / "__init__.py").exists()


def test_links_lead_somewhere():
    for document in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *DOCS.rglob("*.md")):
        targets = re.findall(r"\]\((?!https?:)([^)#]+)", document.read_text())
        assert [t for t in targets if not (document.parent / t).exists()] == [], document


def test_decisions_are_numbered():
    numbers = sorted(int(p.name[:4]) for p in (DOCS / "decisions").glob("*.md"))
    assert numbers == list(range(1, len(numbers) + 1))
