"""Where bytes lie: folders, object stores and the rest behind one interface (the only importer of fsspec, obstore, botocore)."""

from __future__ import annotations

import time
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING

from ray_prep.errors import RecipeError, did_you_mean
from ray_prep.redaction import clean_uri, redact
from ray_prep.storage.aws import resolve
from ray_prep.storage.local import LocalStore, clear_unfinished, read_local
from ray_prep.storage.objects import OBJECT_SCHEMES, S3_SCHEMES, ObjectStore
from ray_prep.storage.options import PROMPT, STEADY, Patience, StorageOptions
from ray_prep.storage.readahead import read_ahead
from ray_prep.storage.store import Entry, Store
from ray_prep.storage.uri import is_local, is_web, local_path, local_uri, scheme_of, split_uri

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = [
    "OBJECT_SCHEMES",
    "PROMPT",
    "STEADY",
    "Entry",
    "Patience",
    "StorageOptions",
    "Store",
    "Stores",
    "absolute_uri",
    "check_scheme",
    "clean_uri",
    "clear_unfinished",
    "delta_options",
    "is_local",
    "is_web",
    "local_path",
    "local_uri",
    "open_store",
    "read_ahead",
    "read_local",
    "redact",
    "scheme_of",
    "split_uri",
]

# Of hosts that are there most answer in a tenth of a second, and one that is not is known after ten: all are over within the bound.
_MOST_GREETED = 1000
_GREETED_AT_ONCE = 32
_GREETING_S = 20.0


def absolute_uri(uri: str, *, writing: bool = False) -> str:
    """Return a uri that means the same in every process: a local path made absolute, secrets and closing slashes cut.

    Args:
        uri: As a person writes it.
        writing: Whether a dataset is to be written there.

    Raises:
        RecipeError: It names no place, or there is no store for its scheme.
    """
    if not uri:
        msg = "the uri is empty; write a folder, or s3://bucket/folder"
        raise RecipeError(msg)
    if is_local(uri):
        return local_uri(local_path(uri))
    check_scheme(uri, writing=writing)
    if not uri.partition("://")[2].partition("/")[0]:
        msg = f"{clean_uri(uri)}: no bucket or host after ://"
        raise RecipeError(msg)
    return clean_uri(uri).rstrip("/")


def open_store(uri: str, options: StorageOptions | None = None, *, patience: Patience = STEADY) -> Store:
    """Return the store below a uri; nothing is connected yet.

    Args:
        uri: A path, `file://`, `s3://`, `gs://`, `az://` or `https://`.
        options: How it is reached; None leaves all to the environment.
        patience: How long it may keep us waiting.

    Raises:
        RecipeError: Nobody knows the scheme, or the uri names no place.
    """
    options = options or StorageOptions()
    uri = absolute_uri(uri)
    if is_local(uri):
        return LocalStore(local_path(uri), options)
    scheme = scheme_of(uri)
    if scheme in OBJECT_SCHEMES:
        return ObjectStore(uri, options, patience)
    from ray_prep.storage.remote import RemoteStore  # noqa: PLC0415  0.3 s with aiohttp, and only for web servers

    return RemoteStore(uri, options, patience)


def check_scheme(uri: str, *, writing: bool = False) -> None:
    """Refuse a uri that nothing can be read from, or written to.

    The schemes are a closed set: what else fsspec lists wants a host, a login or a package of its own, and fails in the middle of a build.

    Args:
        uri: Of any scheme.
        writing: Whether a dataset is to be written there.

    Raises:
        RecipeError: There is no store for its scheme.
    """
    scheme = scheme_of(uri)
    if is_local(uri) or scheme in OBJECT_SCHEMES or (is_web(uri) and not writing):
        return
    known = "local paths, file://, s3://, gs://, az://" + ("" if writing else ", https:// and http://")
    if is_web(uri):
        msg = f"{clean_uri(uri)}: a web server cannot be written to; there are {known}"
    else:
        hint = did_you_mean(scheme, ["s3", "gs", "az", "https", "file"])
        msg = f"{clean_uri(uri)}: nothing is read or written by {scheme}://{hint}; there are {known}"
    raise RecipeError(msg)


class Stores:
    """The stores behind single uris, one a bucket or host, each connected once.

    Args:
        options: How all of them are reached.
        patience: How long they may keep us waiting.
    """

    def __init__(self, options: StorageOptions, patience: Patience = STEADY) -> None:
        self._options = options
        self._patience = patience
        self._here = LocalStore("/", options)
        self._opened: dict[str, Store] = {}
        self._greeted: set[str] = set()
        self._greeting_s = 0.0

    def of(self, uri: str) -> tuple[Store, str]:
        """Return the store a uri lies in, and its path there.

        Raises:
            RecipeError: Nobody knows the scheme.
        """
        if uri.startswith("/"):
            return self._here, uri[1:]
        if is_local(uri):
            return self._here, local_path(uri)[1:]
        scheme, _, rest = uri.partition("://")
        bucket, _, path = rest.partition("/")
        root = f"{scheme}://{bucket}"
        store = self._opened.get(root)
        if store is None:
            store = self._opened[root] = open_store(root, self._options, patience=self._patience)
        return store, path

    def greet(self, uris: Iterable[str]) -> None:
        """Hear within seconds whether buckets and hosts answer at all, where an ordinary request insists for minutes.

        Each is asked once, for the first of its uris; whether anything lies there plays no part. They are asked side by side, up to a
        thousand of them and for a third of a minute in all: who lists the hosts of half the web cannot have each asked beforehand.

        Args:
            uris: Of any places; local ones are nobody to ask.

        Raises:
            StorageError: One does not answer, or refuses access.
        """
        new: dict[str, tuple[Store, str]] = {}
        for uri in uris:
            store, path = self.of(uri)
            if store is not self._here and store.uri not in self._greeted and len(self._greeted) < _MOST_GREETED:
                self._greeted.add(store.uri)
                new[store.uri] = store, path
        if not new or self._greeting_s >= _GREETING_S:
            return
        begin = time.monotonic()
        threads = ThreadPoolExecutor(min(_GREETED_AT_ONCE, len(new)), thread_name_prefix="ray_prep-greet")
        try:
            greetings = [threads.submit(store.greet, path) for store, path in new.values()]
            answered = wait(greetings, _GREETING_S - self._greeting_s, FIRST_EXCEPTION).done
            for greeting in answered:
                greeting.result()
        finally:
            threads.shutdown(wait=False, cancel_futures=True)
            self._greeting_s += time.monotonic() - begin


def delta_options(uri: str, options: StorageOptions, *, patience: Patience = STEADY) -> Mapping[str, str]:
    """Return what `deltalake` wants as `storage_options` for a table, credentials of the moment included: keep it in memory only.

    Timeouts and retries are part of it; deltalake 1.6 knows no limit on a stall, so a whole request has one.
    """
    if is_local(uri):
        return {}
    # deltalake retries by itself and takes no stop: a signature stays valid for 15 minutes, of which 5 are allowed.
    retry_s = min(patience.retry_s, 300.0)
    common = {
        "connect_timeout": f"{patience.connect_s:g}s",
        "timeout": f"{max(patience.stall_s * 2, 5):g}s",
        "max_retries": "30",
        "retry_timeout": f"{retry_s:g}s",
        "backoff_config.init_backoff": "100ms",
        "backoff_config.max_backoff": "15s",
    }
    if scheme_of(uri) not in S3_SCHEMES:
        return common | ({"allow_http": "true"} if options.allow_http else {}) | ({"skip_signature": "true"} if options.anonymous else {})
    access = resolve(options, clean_uri(uri))
    given = common | {
        "AWS_ENDPOINT_URL": access.endpoint,
        "AWS_REGION": access.region,
        "AWS_ALLOW_HTTP": "true" if access.allow_http else "false",
    }
    if access.credentials is None:
        return given | {"AWS_SKIP_SIGNATURE": "true"}
    keys = access.keys()
    given |= {"AWS_ACCESS_KEY_ID": keys["access_key_id"], "AWS_SECRET_ACCESS_KEY": keys["secret_access_key"]}
    return given | ({"AWS_SESSION_TOKEN": keys["token"]} if keys["token"] else {})
