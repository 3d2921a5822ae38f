"""The example of a package in its own right: its wheel is built and installed, and its own tests run on that."""

import os
import re
import shutil
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest

from tests.conftest import missing

EXAMPLE = Path(__file__).parents[2] / "examples" / "shrink"
#: From this version on setuptools builds wheels on its own, and reads today's pyproject.toml.
SETUPTOOLS = 77


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A folder that holds what pip installs of the wheel, built without the network."""
    try:
        have = version("setuptools")
    except PackageNotFoundError:
        have = "0"
    if int(have.partition(".")[0]) < SETUPTOOLS:
        missing(f"setuptools {SETUPTOOLS} or newer is not installed: pip install 'planish[test]'")
    source, site = tmp_path_factory.mktemp("source") / "shrink", tmp_path_factory.mktemp("site")
    shutil.copytree(EXAMPLE, source, ignore=shutil.ignore_patterns("__pycache__", "build", "*.egg-info"))
    offline = ["--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check", "--quiet"]
    run([sys.executable, "-m", "pip", "install", *offline, "--target", str(site), str(source)], source)
    return site


def run(command, folder, **environment):
    done = subprocess.run(
        command, cwd=folder, env=os.environ | environment, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


def test_its_own_tests_pass_where_it_is_installed(site, tmp_path):
    shutil.copytree(EXAMPLE / "tests", tmp_path / "tests", ignore=shutil.ignore_patterns("__pycache__"))
    pytest_ = [sys.executable, "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", "-p", "no:xdist", "tests"]
    ahead = [str(site), *filter(None, [os.environ.get("PYTHONPATH")])]
    told = run(pytest_, tmp_path, PYTHONPATH=os.pathsep.join(ahead))
    skipped = re.findall(r"^SKIPPED .*", told, re.MULTILINE)
    if skipped:
        missing(f"the example's own tests were skipped: {skipped[0]}")
    assert re.search(r"^\d+ passed", told, re.MULTILINE), told


def test_the_module_is_short():
    assert len((EXAMPLE / "planish_shrink.py").read_text().splitlines()) < 80
