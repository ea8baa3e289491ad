"""Uris: which store they name, where they end, and what of them a person may see."""

from __future__ import annotations

import os
import re
from urllib.parse import quote, unquote_to_bytes

from ray_prep.errors import RecipeError

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_URI_IN_TEXT = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s'\"<>]+")
# What signs a request: AWS and Google (X-Amz-*, X-Goog-*, and the older AWSAccessKeyId + Signature), Azure (sig), CloudFront
# (Signature, Key-Pair-Id, Policy) and plain bearer tokens.
_SECRET_PARAMETER = re.compile(
    r"(?i)(x-(amz|goog)-.*|sig|signature|token|[a-z_-]*token|awsaccesskeyid|googleaccessid|key-pair-id|policy|secret|password|api_?key)"
)
_SECRET_IN_TEXT = re.compile(
    r"(?i)((?:x-(?:amz|goog)-[a-z-]+|signature|sig|token|(?:session_|access_)token|awsaccesskeyid"
    r"|(?:aws_)?(?:access_key_id|secret_access_key))\s*[=:]\s*)[^\s&'\",;}>]+"
)
# The account of an Azure uri stands where other schemes have the user: `abfss://container@account.dfs.core.windows.net/path`.
_ACCOUNT_SCHEMES = frozenset({"abfs", "abfss", "wasb", "wasbs"})
_SECRET_VARIABLES = ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AZURE_STORAGE_ACCOUNT_KEY", "AZURE_CLIENT_SECRET")


def scheme_of(uri: str) -> str:
    """Return the scheme in lower case; empty for a local path, `file` for `file:///…`."""
    match = _SCHEME.match(uri)
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
            msg = f"{clean_uri(uri)}: a file uri has three slashes and an absolute path: file:///{host}{slash}{path}"
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


def clean_uri(uri: str) -> str:
    """Cut userinfo and signature parameters from a uri; a local path is returned as it is."""
    match = _SCHEME.match(uri)
    if not match:
        return uri
    head, rest = uri[: match.end()], uri[match.end() :]
    host, slash, path = rest.partition("/")
    if "@" in host and match[1].lower() not in _ACCOUNT_SCHEMES:
        host = host.rpartition("@")[2]
    rest = host + slash + path
    if "?" not in rest:
        return head + rest
    path, _, query = rest.partition("?")
    query, mark, fragment = query.partition("#")
    kept = [part for part in query.split("&") if not _SECRET_PARAMETER.fullmatch(part.partition("=")[0])]
    return head + path + ("?" + "&".join(kept) if kept else "") + mark + fragment


def redact(text: str) -> str:
    """Cut secrets from any text: userinfo and signatures of uris, named keys and tokens, and those the environment holds."""
    text = _URI_IN_TEXT.sub(lambda match: clean_uri(match[0]), text)
    text = _SECRET_IN_TEXT.sub(r"\1…", text)
    for name in _SECRET_VARIABLES:
        value = os.environ.get(name, "")
        if len(value) >= 8:
            text = text.replace(value, "…")
    return text
