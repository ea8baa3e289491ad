"""What of a uri, and of any text, a person may see: secrets are cut before they reach a message, a log or the dataset."""

from __future__ import annotations

import os
import re

SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
# Bounded on the left, so that a text of one long word takes no longer than others.
_URI_IN_TEXT = re.compile(r"(?<![A-Za-z0-9+.-])[A-Za-z][A-Za-z0-9+.-]{0,20}://[^\s'\"<>]+")
# A uri that was taken for a path has one slash left (`s3:/user:password@bucket`), and a file's may have three.
_USER_IN_TEXT = re.compile(r"(?<![A-Za-z0-9+.-])([A-Za-z][A-Za-z0-9+.-]{0,20}:/+)[^\s/:@'\"<>]+:[^\s/'\"<>]*@")
# What signs a request: AWS and Google (X-Amz-*, X-Goog-*, and the older AWSAccessKeyId + Signature), Azure (sig), CloudFront
# (Signature, Key-Pair-Id, Policy) and plain bearer tokens.
_SECRET_PARAMETER = re.compile(
    r"(?i)(x-(amz|goog)-.*|sig|signature|token|[a-z_-]*token|awsaccesskeyid|googleaccessid|key-pair-id|policy|secret|password|api_?key)"
)
_SECRET_IN_TEXT = re.compile(
    r"(?i)(?<![a-z])((?:x-(?:amz|goog)-[a-z-]+|signature|sig|token|(?:session_|access_|aws_session_)token|awsaccesskeyid"
    r"|(?:aws_)?(?:access_key_id|secret_access_key)|password|secret|api_?key)['\"]?\s*[=:]\s*['\"]?)[^\s&'\",;}>]+"
)
# `user:the beginning of a secret with a slash in it`; no port, and no address of IPv6.
_SECRET_BEFORE_SLASH = re.compile(r"[^\[\]:]+:(?!\d*$).+")
# The account of an Azure uri stands where other schemes have the user: `abfss://container@account.dfs.core.windows.net/path`.
_ACCOUNT_SCHEMES = frozenset({"abfs", "abfss", "wasb", "wasbs"})
_SECRET_VARIABLES = ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AZURE_STORAGE_ACCOUNT_KEY", "AZURE_CLIENT_SECRET")


def clean_uri(uri: str) -> str:
    """Cut userinfo and signature parameters from a uri; a local path is returned as it is."""
    match = SCHEME.match(uri)
    if not match:
        return uri
    head, rest = uri[: match.end()], uri[match.end() :]
    host, slash, path = rest.partition("/")
    rest = host + slash + path
    if "@" in host and match[1].lower() not in _ACCOUNT_SCHEMES:
        rest = host.rpartition("@")[2] + slash + path
    elif _SECRET_BEFORE_SLASH.fullmatch(host) and "@" in path:
        rest = path.partition("@")[2]
    if "?" not in rest:
        return head + rest
    path, _, query = rest.partition("?")
    query, mark, fragment = query.partition("#")
    kept = [part for part in query.split("&") if not _SECRET_PARAMETER.fullmatch(part.partition("=")[0])]
    return head + path + ("?" + "&".join(kept) if kept else "") + mark + fragment


def redact(text: str) -> str:
    """Cut secrets from a text of others (a server's answer, a value given): as `without_credentials`, and named keys and tokens."""
    return _SECRET_IN_TEXT.sub(r"\1…", without_credentials(text))


def without_credentials(text: str) -> str:
    """Cut userinfo and signatures from the uris in a text, and the secrets that the environment holds; all else stays as it is."""
    text = _URI_IN_TEXT.sub(lambda match: clean_uri(match[0]), text)
    text = _USER_IN_TEXT.sub(r"\1", text)
    for name in _SECRET_VARIABLES:
        value = os.environ.get(name, "")
        if len(value) >= 8:
            text = text.replace(value, "…")
    return text
