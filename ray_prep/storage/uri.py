"""Uris: which store they name, and where they end."""

from __future__ import annotations

import os
from urllib.parse import quote, unquote_to_bytes

from ray_prep.errors import RecipeError
from ray_prep.redaction import SCHEME, clean_uri


def scheme_of(uri: str) -> str:
    """Return the scheme in lower case; empty for a local path, `file` for `file:///…`."""
    match = SCHEME.match(uri)
    if match:
        return match[1].lower()
    return "file" if uri.startswith("file:/") else ""


def is_local(uri: str) -> bool:
    """Return whether a uri names a path of this machine."""
    return scheme_of(uri) in {"", "file"}


def is_web(uri: str) -> bool:
    """Return whether a uri names something on a web server."""
    return scheme_of(uri) in {"http", "https"}


def local_path(uri: str) -> str:
    """Return the absolute path a local uri stands for.

    A plain path is taken as it is written; a `file://` uri is percent-decoded, to bytes that need not be UTF-8.

    Raises:
        RecipeError: `file://` names another host.
    """
    if scheme_of(uri) != "file":
        return os.path.abspath(os.path.expanduser(uri))
    rest = uri[len("file:") :]
    if rest.startswith("//"):
        host, slash, path = rest[2:].partition("/")
        if host not in {"", "localhost"} or not slash:
            msg = f"{clean_uri(uri)}: a file uri has three slashes and an absolute path: file:///{host.rpartition('@')[2]}{slash}{path}"
            raise RecipeError(msg)
        rest = "/" + path
    return os.path.abspath(os.fsdecode(unquote_to_bytes(rest)))


def local_uri(path: str) -> str:
    """Return what an item carries for a local path: the path, or a `file://` uri where its name is not UTF-8."""
    try:
        path.encode("utf-8")
    except UnicodeEncodeError:
        return "file://" + quote(os.fsencode(path))
    return path


def split_uri(uri: str) -> tuple[str, str]:
    """Return the folder a uri lies in and its name there: `s3://bucket/a`, `list.csv`."""
    if is_local(uri):
        folder, _, name = local_path(uri).rpartition("/")
        return folder or "/", name
    head, rest = uri[: uri.index("://") + 3], uri[uri.index("://") + 3 :]
    if is_web(uri):
        rest, mark, query = rest.partition("?")
        folder, _, name = rest.rpartition("/")
        return head + folder, name + mark + query
    folder, _, name = rest.rpartition("/")
    return head + folder, name
