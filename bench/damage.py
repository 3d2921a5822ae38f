"""What becomes of damaged ONNX files: compiled, refused with a documented exit code, or a failure of ours.

    python bench/damage.py [--count 2000] [--first 0] [FILE.onnx ...]

Each of six small files that the tests make (or each file given) is damaged `count` times and compiled for target c:
imported, through the default passes, emitted. Prints counts, and each failure once, with the seed that repeats it.
Ends with status 1 when anything failed.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path
from typing import Any, NoReturn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.support.damage import damaged, outcome
from tests.support.small_files import FILES

#: A file that takes longer is a failure, too.
SECONDS = 20


def main() -> None:
    """Damage, compile, count."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", type=Path)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    options = parser.parse_args()
    files = {path.name: path.read_bytes() for path in options.files} or {name: make() for name, make in FILES.items()}
    signal.signal(signal.SIGALRM, _too_long)
    failures: Counter[str] = Counter()
    for name, content in files.items():
        started, counts = time.process_time(), Counter[str]()
        for seed in range(options.first, options.first + options.count):
            what, error = _outcome(damaged(content, seed))
            counts[what] += 1
            if what == "failed" and error is not None:
                place = _place(error)
                failures[place] += 1
                if failures[place] == 1:
                    print(f"FAILED {name} seed {seed}: {place}: {str(error.__cause__ or error)[:160]!r}", flush=True)
        found = ", ".join(f"{count} {what}" for what, count in sorted(counts.items()))
        print(f"{name}: {found}; {time.process_time() - started:.0f} s", flush=True)
    for place, count in failures.most_common():
        print(f"{count:5d} {place}")
    sys.exit(1 if failures else 0)


def _outcome(content: bytes) -> tuple[str, Any]:
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        signal.alarm(SECONDS)
        try:
            return outcome(Path(folder), content)
        finally:
            signal.alarm(0)


def _too_long(number: int, frame: object) -> NoReturn:
    raise TimeoutError(f"more than {SECONDS} s")


def _place(error: BaseException) -> str:
    """Where it was raised, in our code, and what kind."""
    cause = error.__cause__ or error
    frames = [f for f in traceback.extract_tb(cause.__traceback__) if "site-packages" not in f.filename]
    where = f"{'/'.join(Path(frames[-1].filename).parts[-3:])}:{frames[-1].lineno}" if frames else "?"
    return f"{where} {type(cause).__name__}"


if __name__ == "__main__":
    main()
