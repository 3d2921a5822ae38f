"""Folders that planish writes: complete under their final name or not there at all, and replaced only when ours.

A folder is built beside its final place, as `.NAME.XXXXXXXX.partial`, and renamed when it is complete. What a killed
process left of such a folder or file goes when the next one writes the same name: who still works holds a lock. Its
`report.json` lists every file with its size, so that nothing that a user put there is ever deleted. Not listed: itself,
and what `verify` writes anew.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
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
_DISK |= {errno.ENAMETOOLONG, errno.ELOOP, errno.ENOTDIR}


def check_replaceable(out: Path) -> None:
    """Raise UsageError unless `out` may become a folder of ours: absent, empty, or written by planish and unchanged."""
    try:
        absent = not out.exists()
        if absent and any(len(os.fsencode(part)) > _longest_name(out.parent) for part in out.parts):
            raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
    except OSError as error:  # a name that is too long, for instance
        raise _cannot_write(out, error) from None
    if absent:
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
        place = _existing(out.parent)
        clear_leftovers(place, out.name, "")
        working, lock = _locked(lambda: Path(tempfile.mkdtemp(prefix=_prefix(out), suffix=".partial", dir=place)))
    except OSError as error:
        raise _cannot_write(out, error) from None
    try:
        yield working
        working.chmod(0o777 & ~_umask())  # mkdtemp's own are private
        _move(working, out)
    except OSError as error:
        raise _disk_error(out, error) from None
    finally:
        shutil.rmtree(working, ignore_errors=True)
        os.close(lock)


# ---- what is under way, and what was left


def _prefix(out: Path) -> str:
    return f".{out.name[:100]}."


def _locked(make: Callable[[], Path]) -> tuple[Path, int]:
    """A new folder or file, and a descriptor that holds it until it is closed, or the process ends."""
    while True:
        path = make()
        descriptor = os.open(path, os.O_RDONLY)
        if _lock(descriptor, alone=False) is not False and path.exists():
            return path, descriptor
        os.close(descriptor)  # whoever was clearing up took it for a leftover before it was held


def _lock(descriptor: int, alone: bool) -> bool | None:
    """Hold a file, alone or with others; whether that went, None where the system knows no such locks."""
    try:
        import fcntl

        fcntl.flock(descriptor, (fcntl.LOCK_EX if alone else fcntl.LOCK_SH) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except (ImportError, OSError):
        return None
    return True


def clear_leftovers(folder: Path, name: str, suffix: str) -> None:
    """Remove what processes that are no more left of `folder / name`; a build that had to step aside comes back.

    Nothing that another process holds, that is a link, or that another user owns is touched.
    """
    pattern = re.compile(rf"\.{re.escape(name[:100])}\.[a-z0-9_]{{8}}\.(partial{re.escape(suffix)}|old)")
    for path in sorted(folder.iterdir()):
        if not pattern.fullmatch(path.name) or path.is_symlink():
            continue
        try:
            descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
        except OSError:
            continue
        try:
            mine = not hasattr(os, "getuid") or os.fstat(descriptor).st_uid == os.getuid()
            if not mine or not _lock(descriptor, alone=True):
                continue
            if path.suffix == ".old" and not (folder / name).exists():
                path.rename(folder / name)
            elif path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
        except OSError:
            continue
        finally:
            os.close(descriptor)


def _cannot_write(out: Path, error: OSError) -> UsageError:
    return UsageError(f"cannot write {out}: {error.strerror}", fix="name another place with -o")


def _disk_error(out: Path, error: OSError) -> Exception:
    """Full, read-only and broken disks are the user's to mend; any other OSError is a bug of ours."""
    return UsageError(f"cannot write {out}: {error.strerror}") if error.errno in _DISK else error


def _existing(folder: Path) -> Path:
    """The nearest ancestor that exists: on the same file system as what will be created below it."""
    while not folder.exists():
        folder = folder.parent
    return folder


def _longest_name(folder: Path) -> int:
    """Bytes that a name below a folder may have, which need not exist yet."""
    return os.pathconf(_existing(folder), "PC_NAME_MAX") if hasattr(os, "pathconf") else 255


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
    aside, lock = working.with_suffix(".old"), os.open(out, os.O_RDONLY)
    try:
        _lock(lock, alone=False)
        out.rename(aside)
        try:
            working.rename(out)
        except OSError:
            aside.rename(out)
            raise
        shutil.rmtree(aside, ignore_errors=True)
    finally:
        os.close(lock)


@contextmanager
def new_file(out: Path) -> Iterator[Path]:
    """A path to write to that becomes the file `out` when the block ends; when it raises, nothing is left."""
    out = Path(os.path.realpath(out))
    try:
        if out.is_dir():
            raise UsageError(f"{out} is a folder, not a file", fix="name a file with -o")
        clear_leftovers(out.parent, out.name, out.suffix)
        working, lock = _locked(lambda: _new_file(out))
    except OSError as error:
        raise _cannot_write(out, error) from None
    try:
        yield working
        working.chmod(0o666 & ~_umask())
        working.replace(out)
    except OSError as error:
        raise _disk_error(out, error) from None
    finally:
        with suppress(FileNotFoundError):
            working.unlink()
        os.close(lock)


def _new_file(out: Path) -> Path:
    handle, name = tempfile.mkstemp(prefix=_prefix(out), suffix=f".partial{out.suffix}", dir=out.parent)
    os.close(handle)
    return Path(name)


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
