"""Lists files at URLs, through fsspec."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from partedvae.serving.extract.sources.outage import StorageError
from partedvae.serving.extract.sources.remote import open_storage, reason_of, retried


@dataclass(frozen=True)
class RemoteFile:
    """A file of a listing."""

    name: str
    """Path relative to the folder, with forward slashes."""
    size: int
    """In bytes; -1 if the storage does not say."""
    version: str
    """What changes with the content: the ETag, or the date; empty if the storage does not say."""


def find_files(url: str, depth: int | None = None) -> Iterator[RemoteFile]:
    """Yield the files at a URL and in the folders under it, a folder at a time.

    Args:
        url: of a folder or prefix.
        depth: how many levels of folders to enter; all by default.

    Raises:
        StorageError: it cannot be listed.
    """
    files, root = open_storage(url)
    root = root.rstrip("/")
    for entry in _listed(url, lambda: files.ls(root, detail=True)):
        path = entry["name"].rstrip("/")
        if path == root:
            continue  # The object that stands for a folder in some object stores.
        if entry["type"] != "directory":
            yield _remote_file(entry, root)
        elif depth is None or depth > 0:
            inner = _listed(url, partial(files.find, path, maxdepth=depth, detail=True))
            yield from (_remote_file(file, root) for file in inner.values() if not file["name"].endswith("/"))


def is_remote_folder(url: str) -> bool:
    """Return whether a URL is a folder or prefix: it ends in a slash, or the storage says so.

    Raises:
        StorageError: there is nothing at the URL.
    """
    if url.endswith("/"):
        return True
    if urlsplit(url).scheme in ("http", "https"):
        return False
    files, path = open_storage(url)
    kind: str = _listed(url, lambda: files.info(path))["type"]
    return kind == "directory"


def version_of(url: str, timeout: float) -> RemoteFile:
    """Return the size and the version of a file at a URL.

    Args:
        url: of the file.
        timeout: seconds that an attempt may take.

    Raises:
        StorageError: it cannot be read.
    """
    files, path = open_storage(url)
    limits = {"timeout": timeout} if getattr(files, "async_impl", False) else {}
    return _remote_file(_listed(url, lambda: files.info(path, **limits)), path.rpartition("/")[0])


def _remote_file(info: dict[str, Any], root: str) -> RemoteFile:
    known = (info.get(key) for key in ("ETag", "etag", "md5Hash", "LastModified", "mtime", "updated", "created"))
    version = next((str(value) for value in known if value), "")
    size = info.get("size")
    return RemoteFile(info["name"].removeprefix(root).lstrip("/"), -1 if size is None else int(size), version)


def _listed(url: str, list_: Callable[[], Any]) -> Any:
    try:
        return retried(list_)
    except Exception as error:
        raise StorageError(f"{url}: {reason_of(error)}") from error
