"""Folders that planish writes: complete under their final name or not there at all, and replaced only when ours.

A folder is built beside its final place and renamed when it is complete. Its `report.json` lists every file with its
size, so that nothing that a user put there is ever deleted. Not listed: itself, and what `verify` writes anew.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from .ir.errors import ModelError, UsageError

REPORT = "report.json"
#: The page that people read, and what the last `planish verify` found. Both are written anew by `verify`.
PAGE, VERDICT = "report.html", "verify.json"
#: What is ours whatever its size; the report lists the sizes of all others.
_UNLISTED = {REPORT, PAGE, VERDICT}
#: Of the report and of the files that it lists; a reader refuses what it does not know.
FORMAT = 2
_KEYS = ("name", "target", "model", "inputs", "outputs", "calibration", "passes", "macs", "facts", "layers", "notes")
#: What goes wrong with disks rather than with us.
_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS, errno.EACCES, errno.EPERM}


def check_replaceable(out: Path) -> None:
    """Raise UsageError unless `out` may become a folder of ours: absent, empty, or written by planish and unchanged."""
    if not out.exists():
        return
    if not out.is_dir():
        raise UsageError(f"{out} is a file, not a folder", fix="name a folder with -o")
    if not any(out.iterdir()):
        return
    fix = "name another folder with -o, or move what is in this one"
    try:
        report = json.loads((out / REPORT).read_text(encoding="utf-8"))
        ours = dict(report["files"]) if report["planish"] else {}
    except (OSError, ValueError, KeyError, TypeError):
        raise UsageError(f"{out} holds files and was not written by planish", fix=fix) from None
    present = {path.relative_to(out).as_posix(): path.lstat().st_size for path in files_below(out)}
    foreign = [name for name, size in present.items() if name not in _UNLISTED and ours.get(name) != size]
    if foreign:
        more = f" and {len(foreign) - 3} more" if len(foreign) > 3 else ""
        raise UsageError(
            f"{out} holds files that planish did not write or that were edited: {', '.join(foreign[:3])}{more}", fix=fix
        )


def files_below(folder: Path) -> list[Path]:
    """Every file and link below a folder, sorted."""
    return sorted(path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir())


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """An empty folder that becomes `out` when the block ends; when it raises, nothing is left.

    Raises UsageError when `out` holds what is not ours or cannot be written.
    """
    out = Path(os.path.realpath(out))  # a link stays: what it points to is replaced
    check_replaceable(out)
    try:
        working = Path(tempfile.mkdtemp(prefix=f".{out.name[:100]}.", suffix=".partial", dir=_existing(out.parent)))
    except OSError as error:
        raise UsageError(f"cannot write {out}: {error.strerror}", fix="name another folder with -o") from None
    try:
        yield working
        working.chmod(0o777 & ~_umask())  # mkdtemp's own are private
        _move(working, out)
    except OSError as error:
        raise _disk_error(out, error) from None
    finally:
        shutil.rmtree(working, ignore_errors=True)


def _disk_error(out: Path, error: OSError) -> Exception:
    """Full, read-only and broken disks are the user's to mend; any other OSError is a bug of ours."""
    return UsageError(f"cannot write {out}: {error.strerror}") if error.errno in _DISK else error


def _existing(folder: Path) -> Path:
    """The nearest ancestor that exists: on the same file system as what will be created below it."""
    while not folder.exists():
        folder = folder.parent
    return folder


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _move(working: Path, out: Path) -> None:
    """Give the complete folder its name. The old one, if any, steps aside first and comes back on failure."""
    out.parent.mkdir(parents=True, exist_ok=True)
    check_replaceable(out)  # again: work may have taken minutes
    if not out.exists():
        working.rename(out)
        return
    aside = working.with_suffix(".old")
    out.rename(aside)
    try:
        working.rename(out)
    except OSError:
        aside.rename(out)
        raise
    shutil.rmtree(aside, ignore_errors=True)


@contextmanager
def new_file(out: Path) -> Iterator[Path]:
    """A path to write to that becomes the file `out` when the block ends; when it raises, nothing is left."""
    out = Path(os.path.realpath(out))
    if out.is_dir():
        raise UsageError(f"{out} is a folder, not a file", fix="name a file with -o")
    try:
        handle, name = tempfile.mkstemp(prefix=f".{out.name[:100]}.", suffix=out.suffix, dir=out.parent)
    except OSError as error:
        raise UsageError(f"cannot write {out}: {error.strerror}", fix="name another file with -o") from None
    os.close(handle)
    working = Path(name)
    try:
        yield working
        working.chmod(0o666 & ~_umask())
        working.replace(out)
    except OSError as error:
        raise _disk_error(out, error) from None
    finally:
        with suppress(FileNotFoundError):
            working.unlink()


def write_report(folder: Path, report: Mapping[str, Any]) -> None:
    """Write the report as the last file, with the list of the others and their sizes."""
    sizes = {path.relative_to(folder).as_posix(): path.stat().st_size for path in files_below(folder)}
    files = {name: size for name, size in sizes.items() if name not in _UNLISTED}
    text = json.dumps({**report, "files": files}, indent=1, allow_nan=False)
    (folder / REPORT).write_text(text + "\n", encoding="utf-8")


def read_report(folder: Path) -> dict[str, Any]:
    """The report of a folder that `planish compile` wrote.

    Raises UsageError when it is no such folder, ModelError when its report is broken or files are missing.
    """
    fix = "give the folder that `planish compile ... -o FOLDER` wrote"
    if not folder.is_dir():
        raise UsageError(f"{folder} is not a folder" if folder.exists() else f"{folder} does not exist", fix=fix)
    try:
        report = json.loads((folder / REPORT).read_text(encoding="utf-8"))
        ours = isinstance(report, dict) and "planish" in report and isinstance(report["files"], dict)
    except FileNotFoundError:
        raise UsageError(f"{folder} has no {REPORT}: planish did not write it", fix=fix) from None
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"{folder / REPORT} is broken: {error}", fix="compile the model again") from None
    if not ours or report.get("format") != FORMAT:
        raise ModelError(f"{folder / REPORT} is not of a format that this version reads", fix="compile the model again")
    if absent := [key for key in _KEYS if key not in report]:
        raise ModelError(f"{folder / REPORT} lacks {', '.join(absent)}", fix="compile the model again")
    for name in report["files"]:
        path = folder / name
        if ".." in Path(name).parts or Path(name).is_absolute():
            raise ModelError(f"{folder / REPORT} lists a file outside of its folder", fix="compile the model again")
        if not path.is_file():
            raise ModelError(f"{path} is missing", fix="compile the model again")
    return report
