"""The packages that pyproject.toml lists by hand are those on disk, and the links for static tools point at them."""

import tomllib
from pathlib import Path

import pytest

SETUPTOOLS = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["tool"]["setuptools"]
FOLDERS: dict[str, str] = SETUPTOOLS["package-dir"]
LAYERS = sorted(set(FOLDERS) - {"planish"})


def package_name(layer: str, below: Path) -> str:
    return ".".join((layer, *below.parts))


def test_every_package_is_listed(root):
    on_disk = {"planish"}
    for layer in LAYERS:
        folder = root / FOLDERS[layer]
        on_disk |= {package_name(layer, init.parent.relative_to(folder)) for init in folder.rglob("__init__.py")}
    face = root / FOLDERS["planish"]
    for entry in face.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            on_disk |= {package_name("planish", init.parent.relative_to(face)) for init in entry.rglob("__init__.py")}
    assert sorted(SETUPTOOLS["packages"]) == sorted(on_disk)


def test_every_module_is_in_a_package(root, files):
    folders = {root / folder for folder in FOLDERS.values()}
    modules = [root / path for path in files if path.suffix == ".py"]
    ours = [module for module in modules if any(module.is_relative_to(folder) for folder in folders)]
    assert ours
    assert [module for module in ours if not (module.parent / "__init__.py").exists()] == []


@pytest.mark.parametrize("layer", LAYERS)
def test_the_link_for_static_tools_is_right(layer, root):
    link = root / "src" / layer.replace(".", "/")
    assert link.is_symlink()
    assert str(link.readlink()) == f"../../{FOLDERS[layer]}"


@pytest.mark.parametrize("package", SETUPTOOLS["packages"])
def test_the_docstring_says_what_the_package_is_for(package, root):
    init = root / "src" / package.replace(".", "/") / "__init__.py"
    assert init.read_text().startswith('"""')
