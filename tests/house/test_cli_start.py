"""`planish --help` answers at once: it imports nothing that takes time."""

import subprocess
import sys
from pathlib import Path

import pytest

CLI = Path(__file__).parents[2] / "src/planish/cli.py"
SLOW = ["networkx", "numpy", "onnx", "onnx_graphsurgeon", "onnxruntime", "scipy", "torch", "tvm"]

SCRIPT = f"""
import sys
from planish.cli import main
try:
    main(["--help"])
except SystemExit as exit:
    assert not exit.code, exit.code
slow = [name for name in {SLOW} if name in sys.modules]
sys.exit(f"--help imports {{slow}}" if slow else 0)
"""


@pytest.mark.parametrize("cli", [CLI] if CLI.exists() else [], ids=["planish --help"] if CLI.exists() else None)
def test_help_imports_nothing_slow(cli):
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "compile" in done.stdout
