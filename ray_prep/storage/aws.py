"""S3 as AWS's tools see it: endpoint, region and credentials of the environment (the only importer of botocore)."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import quote, unquote_plus
from xml.etree import ElementTree

from ray_prep.errors import RecipeError, StorageError, did_you_mean
from ray_prep.storage.failure import PassingFault, Place, insist
from ray_prep.storage.store import Entry

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterator

    from ray_prep.storage.options import Patience, StorageOptions

# Session credentials are fetched again that often; botocore renews them 10 minutes before their end.
_CREDENTIALS_LIVE = timedelta(minutes=9)
_HINT = (
    "check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, storage_options.profile, and what that user may do in the bucket "
    "(anonymous: true for a public one)"
)


@dataclass(frozen=True)
class Access:
    """How an S3 server is reached, resolved.

    Args:
        endpoint: Url without a slash at the end.
        is_aws: Whether that is AWS's own.
        region: Its region.
        allow_http: Whether it may be without TLS.
        credentials: botocore's, which renew themselves; None signs nothing.
    """

    endpoint: str
    is_aws: bool
    region: str
    allow_http: bool
    credentials: Any = field(repr=False)

    def keys(self) -> dict[str, Any]:
        """Return the credentials of the moment, as obstore wants them."""
        frozen = self.credentials.get_frozen_credentials()
        return {
            "access_key_id": frozen.access_key,
            "secret_access_key": frozen.secret_key,
            "token": frozen.token,
            "expires_at": datetime.now(UTC) + _CREDENTIALS_LIVE,
        }


def resolve(options: StorageOptions, uri: str) -> Access:
    """Look up what the recipe leaves open: in the variables, the profile, and the cloud's usual chain of credentials.

    Args:
        options: What the recipe says.
        uri: What is to be reached, for messages.

    Raises:
        RecipeError: There is no such profile, or the endpoint has no TLS and that is not allowed.
        StorageError: There are no credentials.
    """
    environment = tuple(sorted((name, value) for name, value in os.environ.items() if name.startswith("AWS_")))
    try:
        return _resolve(options, environment)
    except StorageError as error:
        msg = f"{uri}: {error}"
        raise StorageError(msg) from error


@lru_cache(maxsize=16)
def _resolve(options: StorageOptions, environment: tuple[tuple[str, str], ...]) -> Access:
    env = dict(environment)
    session: Any = None
    credentials: Any = None
    key, secret = env.get("AWS_ACCESS_KEY_ID"), env.get("AWS_SECRET_ACCESS_KEY")
    if options.profile is None and key and secret:
        from botocore.credentials import Credentials  # noqa: PLC0415  0.2 s, and only where S3 is used

        credentials = Credentials(key, secret, env.get("AWS_SESSION_TOKEN"))
    elif not options.anonymous:
        session, credentials = _session(options.profile)
    settings = session.get_scoped_config() if session else {}
    region = options.region or env.get("AWS_REGION") or env.get("AWS_DEFAULT_REGION") or settings.get("region") or "us-east-1"
    endpoint = (
        options.endpoint
        or env.get("AWS_ENDPOINT_URL_S3")
        or env.get("AWS_ENDPOINT_URL")
        or env.get("AWS_ENDPOINT")
        or settings.get("endpoint_url")
    )
    allow_http = options.allow_http or env.get("AWS_ALLOW_HTTP", "").lower() in {"1", "true", "yes"}
    if endpoint and endpoint.startswith("http://") and not allow_http:
        msg = (
            f"source.storage_options.allow_http: the endpoint {endpoint} has no TLS, so that pictures and signatures travel in the open; "
            "set it to true (or AWS_ALLOW_HTTP=true) if that is meant"
        )
        raise RecipeError(msg)
    return Access(
        endpoint=(endpoint or f"https://s3.{region}.amazonaws.com").rstrip("/"),
        is_aws=endpoint is None,
        region=region,
        allow_http=allow_http,
        credentials=None if options.anonymous else credentials,
    )


def _session(profile: str | None) -> tuple[Any, Any]:
    from botocore.exceptions import BotoCoreError  # noqa: PLC0415  0.3 s, and only where no keys stand in the environment
    from botocore.session import Session  # noqa: PLC0415  see above

    session = Session(profile=profile)
    try:
        known = session.available_profiles
        if profile is not None and profile not in known:
            hint = did_you_mean(profile, known) or f"; there are {', '.join(known) or 'none'}"
            msg = f"source.storage_options.profile: there is no profile {profile!r} in ~/.aws/config or ~/.aws/credentials{hint}"
            raise RecipeError(msg)
        credentials = session.get_credentials()
    except BotoCoreError as error:
        msg = f"the credentials cannot be read: {error}"
        raise StorageError(msg) from error
    if credentials is None:
        msg = (
            "no credentials found in the environment, ~/.aws, or the machine's role; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, "
            "or storage_options.profile, or storage_options.anonymous: true for a public bucket"
        )
        raise StorageError(msg)
    return session, credentials


class S3Requests:
    """Signed requests to one bucket, for what obstore 0.12 cannot do faithfully.

    Its paths have no empty, leading or trailing parts, so that it refuses a listing in which one key is `a//b`, and shows the
    marker `folder/` as an object `folder`.

    Args:
        access: How the server is reached.
        bucket: The bucket.
        patience: How long it may take.
    """

    hint: ClassVar[str] = _HINT

    def __init__(self, access: Access, bucket: str, patience: Patience) -> None:
        from botocore.httpsession import URLLib3Session  # noqa: PLC0415  0.2 s, and only where S3 is listed
        from botocore.utils import get_environ_proxies  # noqa: PLC0415  see above

        self._access = access
        self._bucket = bucket
        self._patience = patience
        self._session = URLLib3Session(
            verify=os.environ.get("AWS_CA_BUNDLE") or os.environ.get("SSL_CERT_FILE") or True,
            proxies=get_environ_proxies(access.endpoint),
            timeout=(patience.connect_s, patience.stall_s),
            max_pool_connections=32,
        )

    def place(self, key: str) -> Place:
        """Return where a key is, for messages."""
        return Place(f"s3://{self._bucket}/{key}".rstrip("/"), self._access.endpoint, self.hint)

    def list(self, prefix: str) -> Iterator[Entry]:
        """Stream the objects whose key begins with `prefix`, by key, a thousand a request; paths are whole keys.

        Raises:
            StorageError: What is answered is no listing, for as long as patience lasts; or the server does not say where to go on.
        """
        token: dict[str, str] = {}
        while True:
            query = {"list-type": "2", "prefix": prefix, **token}
            root, is_encoded, _ = self._page(prefix, query)
            space = root.tag[: root.tag.index("}") + 1] if root.tag.startswith("{") else ""
            for entry in root.iter(f"{space}Contents"):
                key = entry.findtext(f"{space}Key") or ""
                version = (entry.findtext(f"{space}ETag") or "").strip('"')
                yield Entry(unquote_plus(key) if is_encoded else key, int(entry.findtext(f"{space}Size") or 0), version)
            following = root.findtext(f"{space}NextContinuationToken") or ""
            if not following and root.findtext(f"{space}IsTruncated") != "true":
                return
            if following == token.get("continuation-token", ""):
                place = self.place(prefix)
                msg = f"{place.uri}: {place.endpoint} has more keys and does not say where they go on; it should know ListObjectsV2"
                raise StorageError(msg)
            token = {"continuation-token": following}

    def _page(self, prefix: str, query: dict[str, str]) -> tuple[ElementTree.Element, bool, dict[str, str]]:
        """Return a page of a listing, whether its keys are url-encoded, and the answer's headers; insisting."""
        return insist(partial(self._asked, prefix, query), self._patience.retry_s)

    def _asked(self, prefix: str, query: dict[str, str]) -> tuple[ElementTree.Element, bool, dict[str, str]]:
        """Ask once for a page.

        Encoded only where it must be: servers differ in doing it, and XML 1.0 lacks nothing but control characters.
        """
        try:
            headers, body = self.send("GET", "", prefix, query=query)
        except FileNotFoundError as error:  # a bucket that is not there has its own code
            place = self.place(prefix)
            raise StorageError(f"{place.uri}: {place.endpoint} knows no listings of buckets (404); is it an S3 server?") from error
        root = _parsed(body)
        if root is None:
            headers, body = self.send("GET", "", prefix, query={**query, "encoding-type": "url"})
            root = _parsed(body)
        # Taken for the end of a listing, an error or a page of HTML would cost all images behind it.
        if root is None or root.tag.rpartition("}")[2] != "ListBucketResult":
            place = self.place(prefix)
            begin = body[:80].decode("utf-8", "replace")
            raise PassingFault(f"{place.uri}: {place.endpoint} answers something that is no listing; is it an S3 server? ({begin!r})")
        # As the server says: it may ignore the wish, and what made the first answer no XML may have been a proxy's page.
        return root, any(element.tag.rpartition("}")[2] == "EncodingType" for element in root), headers

    def probe(self, prefix: str) -> None:
        """Ask for one key below `prefix`: is the server there, the bucket, the permission, the region?"""
        *_, headers = self._page(prefix, {"list-type": "2", "max-keys": "1", "prefix": prefix})
        region = headers.get("x-amz-bucket-region")
        if self._access.is_aws and region and region != self._access.region:
            place = self.place(prefix)
            msg = f"{place.uri}: the bucket lies in {region}, not in {self._access.region}; set storage_options.region: {region}"
            raise StorageError(msg)

    def head(self, key: str) -> Entry | None:
        """Return size and version of one object; None where there is none."""
        try:
            headers, _ = self.send("HEAD", key, key)
        except FileNotFoundError:
            return None
        return Entry(key, int(headers.get("content-length", 0)), headers.get("etag", "").strip('"'))

    def send(
        self,
        method: str,
        key: str,
        about: str,
        *,
        query: dict[str, str] | None = None,
        headers: dict[str, str] | None = None,
        body: bytes = b"",
        stop: threading.Event | None = None,
    ) -> tuple[dict[str, str], bytes]:
        """Send one request, insisting; return headers (lower case) and body.

        Args:
            method: HTTP method.
            key: The whole key; empty for the bucket.
            about: The key or prefix to name in messages.
            query: Parameters, unquoted.
            headers: Further headers.
            body: What to send.
            stop: Ends the waiting between attempts.
        """
        return insist(lambda: self._attempt(method, key, about, query or {}, headers or {}, body), self._patience.retry_s, stop)

    def _attempt(
        self, method: str, key: str, about: str, query: dict[str, str], headers: dict[str, str], body: bytes
    ) -> tuple[dict[str, str], bytes]:
        from botocore.auth import S3SigV4Auth  # noqa: PLC0415  imported with URLLib3Session
        from botocore.awsrequest import AWSRequest  # noqa: PLC0415  see above
        from botocore.exceptions import BotoCoreError, HTTPClientError, SSLError  # noqa: PLC0415  see above
        from botocore.exceptions import ConnectionError as NoConnection  # noqa: PLC0415  see above

        place = self.place(about)
        url = f"{self._access.endpoint}/{self._bucket}" + (f"/{quote(key, safe='/-_.~')}" if key else "")
        if query:
            url += "?" + "&".join(f"{quote(name)}={quote(value, safe='-_.~')}" for name, value in sorted(query.items()))
        request = AWSRequest(method, url, headers=headers, data=body)
        try:
            if self._access.credentials is not None:
                S3SigV4Auth(self._access.credentials.get_frozen_credentials(), "s3", self._access.region).add_auth(request)
            response = self._session.send(request.prepare())
            content: bytes = response.content
        except SSLError as error:
            msg = f"{place.uri}: the certificate of {place.endpoint} is not trusted ({_cause(error)}); AWS_CA_BUNDLE names authorities"
            raise StorageError(msg) from error
        except (NoConnection, HTTPClientError) as error:
            raise place.fault(None, "", _cause(error)) from error
        except BotoCoreError as error:
            msg = f"{place.uri}: the credentials cannot be renewed: {error}"
            raise StorageError(msg) from error
        if not 200 <= response.status_code < 300:
            region = response.headers.get("x-amz-bucket-region")
            raise place.fault(response.status_code, _code(content), f": {region}" if region else "")
        return {name.lower(): value for name, value in response.headers.items()}, content


def _parsed(body: bytes) -> ElementTree.Element | None:
    """Return what a body says; None where it is no XML."""
    try:
        return ElementTree.fromstring(body)
    except ElementTree.ParseError:
        return None


def _cause(error: BaseException) -> str:
    """Return what the innermost error says, in a few words: botocore's own text is the url."""
    while inner := getattr(error, "kwargs", {}).get("error") or error.__cause__ or error.__context__:
        error = inner
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__).rpartition(": ")[2].rstrip("'\")")[:120]


def _code(body: bytes) -> str:
    start = body.find(b"<Code>")
    return body[start + 6 : body.find(b"</Code>", start)].decode("ascii", "replace") if start >= 0 else ""
