"""The repository speaks of itself alone: no file knows the machine it was written on."""

import re

import pytest

MACHINE_PATH = re.compile(r"(?<![\w.])/(work|home/\w+|Users/\w+|root|tmp)/")
NEIGHBOUR = re.compile(r"\.\./shared\b")


def machine_paths(text: str) -> list[str]:
    return [match.group() for match in MACHINE_PATH.finditer(text)]


def text_of(path) -> str:
    content = path.read_bytes()
    return "" if b"\0" in content else content.decode()


def test_no_file_names_a_path_of_one_machine(root, files):
    assert {str(path): found for path in files if (found := machine_paths(text_of(root / path)))} == {}


def test_only_the_ci_script_looks_beside_the_repository(root, files):
    assert [str(path) for path in files if NEIGHBOUR.search(text_of(root / path))] == [".ci/run"]


@pytest.mark.parametrize("folder", ["work", "home/me", "Users/me", "root", "tmp"])
def test_a_machine_path_is_seen(folder):
    assert machine_paths(f'open("/{folder}/model.onnx")') == [f"/{folder}/"]


def test_a_relative_path_is_none():
    assert machine_paths("build/work/ ./tmp/ https://example.org/work") == []
