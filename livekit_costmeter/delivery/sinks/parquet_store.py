"""
Where the Parquet sink's files are: a local directory, or a bucket (`s3://`, `gs://`) through fsspec.

Invariant: a file is there whole or not at all, and one that is there is never changed: `create` leaves it as it is. In
a directory the file is written under another name, synced and linked; a bucket takes it in one request, on the
condition that there is none of that name. Names are relative to the root, with `/`.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol, TypeVar

import fsspec  # type: ignore[import-untyped]
from fsspec.asyn import sync  # type: ignore[import-untyped]

from livekit_costmeter.delivery.sinks.deadline import within
from livekit_costmeter.delivery.sinks.private_loop import PrivateLoop

T = TypeVar("T")
_DAY = "day="


class Store(Protocol):
    """Files under one root. Every call comes back within the store's timeout; errors are those of the library."""

    def create(self, name: str, data: bytes) -> None:
        """Write a file that is not there yet; leave one that is."""

    def replace(self, name: str, data: bytes) -> None:
        """Write a file, whether it is there or not."""

    def days(self) -> list[str]:
        """Return the names of the folders, in order; none where there is no root."""

    def files(self, day: str) -> list[str]:
        """Return the names of a folder's Parquet files, oldest first."""

    def content(self, name: str) -> bytes:
        """Return what a file holds."""

    def close(self) -> None:
        """Let go of connections."""


class DirectoryStore:
    """A directory, which may be on a network drive that hangs."""

    def __init__(self, root: Path, timeout: float) -> None:
        self._root = root
        self._timeout = timeout

    def create(self, name: str, data: bytes) -> None:
        """Write the file under a hidden name and link it."""
        within(self._timeout, lambda: self._write(self._root / name, data, os.link))

    def replace(self, name: str, data: bytes) -> None:
        """Write the file under a hidden name and rename it."""
        within(self._timeout, lambda: self._write(self._root / name, data, os.rename))

    def _write(self, path: Path, data: bytes, move: Callable[[Path, Path], None]) -> None:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Readers of Hive layouts skip what begins with a dot, such as what a crash leaves of this.
        part = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
        try:
            with os.fdopen(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600), "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            with suppress(FileExistsError):
                move(part, path)
        finally:
            part.unlink(missing_ok=True)
        _sync_directory(path.parent)

    def days(self) -> list[str]:
        """List the folders."""
        return within(self._timeout, lambda: sorted(path.name for path in self._root.glob(f"{_DAY}*")))

    def files(self, day: str) -> list[str]:
        """List a folder's files."""
        return within(self._timeout, lambda: self._files(day))

    def _files(self, day: str) -> list[str]:
        found = [path for path in (self._root / day).glob("*.parquet") if not path.name.startswith(".")]
        return [f"{day}/{path.name}" for path in sorted(found, key=lambda path: (path.stat().st_mtime_ns, path.name))]

    def content(self, name: str) -> bytes:
        """Read a file."""
        return within(self._timeout, (self._root / name).read_bytes)

    def close(self) -> None:
        """There is nothing to let go of."""


class BucketStore:
    """A folder of a bucket; its client works on an event loop of ours, because fsspec's own has an executor."""

    def __init__(self, url: str, storage: Mapping[str, Any], timeout: float) -> None:
        self._protocol, _, root = url.partition("://")
        self._root = root.rstrip("/")
        self._storage = dict(storage)
        self._timeout = timeout
        self._made: Any = None
        self._loop: PrivateLoop | None = None

    def _system(self) -> Any:
        if self._made is None:
            self._loop = self._loop or PrivateLoop("costmeter-parquet")
            ours = {"skip_instance_cache": True, "use_listings_cache": False, "loop": self._loop.loop}
            options = {**self._storage, **ours}
            if self._protocol == "s3":
                patience = {"connect_timeout": self._timeout, "read_timeout": self._timeout}
                options["config_kwargs"] = {
                    **patience,
                    "retries": {"max_attempts": 1},
                    **options.get("config_kwargs", {}),
                }
            self._made = within(self._timeout, lambda: _file_system(self._protocol)(**options))
        return self._made

    def _do(self, method: str, *arguments: Any, **options: Any) -> Any:
        system = self._system()
        return sync(system.loop, getattr(system, method), *arguments, timeout=self._timeout, **options)

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"

    def create(self, name: str, data: bytes) -> None:
        """Write the object, if there is none of that name."""
        with suppress(FileExistsError):
            self._do("_pipe_file", self._path(name), data, mode="create")

    def replace(self, name: str, data: bytes) -> None:
        """Write the object."""
        self._do("_pipe_file", self._path(name), data)

    def days(self) -> list[str]:
        """List the folders."""
        names = (entry["name"].rstrip("/").rpartition("/")[2] for entry in self._entries(self._root))
        return sorted(name for name in names if name.startswith(_DAY))

    def files(self, day: str) -> list[str]:
        """List a folder's objects, by the time at which the bucket took them."""
        found = [entry for entry in self._entries(self._path(day)) if entry["name"].endswith(".parquet")]
        found.sort(key=lambda entry: (str(entry.get("LastModified") or entry.get("updated")), entry["name"]))
        return [f"{day}/{entry['name'].rpartition('/')[2]}" for entry in found]

    def _entries(self, path: str) -> list[dict[str, Any]]:
        try:
            found: list[dict[str, Any]] = self._do("_ls", path, detail=True)
        except FileNotFoundError:
            return []
        return found

    def content(self, name: str) -> bytes:
        """Read an object."""
        data: bytes = self._do("_cat_file", self._path(name))
        return data

    def close(self) -> None:
        """Close the connections, within a second; idempotent."""
        system, self._made = self._made, None
        loop, self._loop = self._loop, None
        if loop is not None:
            loop.stop(lambda: _disconnect(system))


def _file_system(protocol: str) -> Any:
    if protocol == "gs":
        from gcsfs.core import GCSFileSystem  # type: ignore[import-untyped]

        return GCSFileSystem  # not the one that gcsfs registers, which asks for a bucket's kind over gRPC first
    return fsspec.get_filesystem_class(protocol)


async def _disconnect(system: Any) -> None:
    for name in ("_s3creator", "_session"):  # of s3fs, of gcsfs
        client: Any = getattr(system, name, None)
        if hasattr(client, "__aexit__"):
            await client.__aexit__(None, None, None)


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
