"""Numba's compiler as all kernels use it: what it made is kept on disk, and never costs a result.

A kernel's machine code lies in a file of its own, named by what it was compiled for. The file
begins with a digest of the rest, of the kernels' sources and of Numba's version: one that is cut
short, damaged or out of date is passed over, and written anew; so is one that somebody else may
have written, as what it holds is run. The folder is Numba's choice, the first that can be written;
those before it, which cannot, are read as well.
"""

import contextlib
import functools
import hashlib
import inspect
import os
import pickle
import signal
import stat
import tempfile
import threading
import uuid
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import IO, Any

import numba
from numba.core import config
from numba.core.compiler_lock import global_compiler_lock
from numba.core.serialize import dumps

from numba_acts._version import __version__

# A caller's fast mathematics would do away with NaN, and Numba hands it down where nothing is said:
# a cache would keep that for everybody.
OPTIONS: dict[str, Any] = {"fastmath": False, "error_model": "numpy", "forceinline": False}

_DIGEST = hashlib.sha256().digest_size


@contextlib.contextmanager
def _held_back() -> Iterator[None]:
    """Have Control-C wait until what is compiled is compiled.

    Broken off while it takes up new intrinsics, Numba never knows them again.
    """
    before, pressed = signal.getsignal(signal.SIGINT), list[int]()
    if before is None or threading.current_thread() is not threading.main_thread():
        yield  # nobody else is interrupted
        return
    signal.signal(signal.SIGINT, lambda number, _: pressed.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if pressed:
            signal.raise_signal(signal.SIGINT)


@contextlib.contextmanager
def switched_on() -> Iterator[None]:
    """Have Numba compile, whatever NUMBA_DISABLE_JIT says: that is for a user's own functions.

    A kernel is no Python that could be run, or followed by a debugger.
    """
    with global_compiler_lock, _held_back():
        switch, config.DISABLE_JIT = config.DISABLE_JIT, 0
        try:
            yield
        finally:
            config.DISABLE_JIT = switch


@functools.cache
def stamp(package: str) -> bytes:
    """What changes with the files of kernels; where none can be read, with the version."""
    digest = hashlib.sha256(f"{__version__} {numba.__version__}".encode())
    with contextlib.suppress(OSError):  # a frozen program brings no sources
        files = [f for f in resources.files(package).iterdir() if f.name.endswith(".py")]
        files += [resources.files(__package__) / name for name in ("_compiler.py", "_dtypes.py")]
        for file in sorted(files, key=lambda file: file.name):
            digest.update(file.read_bytes())
    return digest.digest()


@functools.cache
def _writable(folder: str) -> bool:
    try:
        os.makedirs(folder, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError:
        return False
    return True


def _used(folders: list[str]) -> list[str]:
    """The folders up to the first that can be written."""
    last = next((i for i, folder in enumerate(folders) if _writable(folder)), len(folders))
    return folders[: last + 1]


@functools.cache
def _trusted(user: int) -> set[int]:
    """Whose files are loaded: the user's, the administrator's, and who put the library there."""
    owners = {0, user}
    with contextlib.suppress(OSError):  # in an archive
        owners.add(os.stat(__file__).st_uid)
    return owners


def _is_trusted(file: IO[bytes]) -> bool:
    """Can nobody else have written a file? Windows keeps a user's folders to the user."""
    if not hasattr(os, "geteuid"):
        return True
    told = os.fstat(file.fileno())
    return told.st_uid in _trusted(os.geteuid()) and not told.st_mode & stat.S_IWOTH


class _File:
    """Keeps what was compiled for a key in the last of some folders, and reads in all."""

    def __init__(self, folders: list[str], name: str, stamp: bytes) -> None:
        self.folders, self.name, self.stamp = folders, name, stamp

    def _places(self, key: Any) -> list[Path]:
        name = f"{self.name}.{hashlib.sha256(repr(key).encode()).hexdigest()[:16]}.nbc"
        return [Path(folder, name) for folder in self.folders]

    def _digest(self, data: bytes) -> bytes:
        return hashlib.sha256(self.stamp + data).digest()

    def load(self, key: Any) -> Any:
        """What was saved, if it is sound and nobody else's."""
        for place in self._places(key):
            with contextlib.suppress(OSError), place.open("rb") as file:
                content = file.read() if _is_trusted(file) else b""
                if content[:_DIGEST] == self._digest(content[_DIGEST:]):
                    return pickle.loads(content[_DIGEST:])
        return None

    def save(self, key: Any, data: Any) -> None:
        """Write it whole or not at all: other processes may read and write the same file."""
        data = dumps(data)
        place = self._places(key)[-1]
        beside = place.with_name(f"{place.name}.{uuid.uuid4().hex[:16]}")
        try:
            with open(beside, "xb", opener=lambda path, flags: os.open(path, flags, 0o644)) as file:
                file.write(self._digest(data) + data)
            beside.replace(place)
        finally:
            beside.unlink(missing_ok=True)


def _as_found(locator: type) -> Any:
    """One of Numba's classes that find a folder, without its attempt to write there."""
    skipped = {"ensure_cache_path": lambda self: None, "get_source_stamp": lambda self: None}
    return type(locator.__name__, (locator,), skipped)


@functools.cache
def _cache(base: Any, stamp: bytes) -> Any:
    """Numba's cache for a target, with files of ours."""

    class Impl(base._impl_class):
        _locator_classes = [_as_found(one) for one in base._impl_class._locator_classes]

    class Cache(base):
        _impl_class = Impl

        def __init__(self, function: Any) -> None:
            super().__init__(function)
            file = inspect.getfile(function)
            found = (one.from_function(function, file) for one in Impl._locator_classes)
            others = [one.get_cache_path() for one in found if one is not None]
            folders = _used(list(dict.fromkeys([self._cache_path, *others])))
            self._cache_file = _File(folders, self._impl.filename_base, stamp)

        def load_overload(self, *task: Any) -> Any:
            try:
                return super().load_overload(*task)
            except Exception:  # sound, but of no use here: as if it were not there
                return None

        def save_overload(self, *task: Any) -> None:
            with contextlib.suppress(Exception):
                super().save_overload(*task)

    return Cache


def keep(kernel: Any, base: Any, stamp: bytes) -> None:
    """Keep what is compiled of a kernel on disk; `base` is Numba's cache for its target."""
    with contextlib.suppress(RuntimeError):  # there is no folder that could be used
        kernel._cache = _cache(base, stamp)(kernel.py_func)


def folder(kernel: Any) -> str | None:
    """Where machine code is kept that is compiled now; None if no folder can be written."""
    kept = getattr(kernel._cache, "_cache_file", None)
    return kept.folders[-1] if isinstance(kept, _File) and _writable(kept.folders[-1]) else None


# A child that is forked while another thread compiles would find the lock taken, for ever.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=global_compiler_lock.acquire,
        after_in_parent=global_compiler_lock.release,
        after_in_child=global_compiler_lock.release,
    )
