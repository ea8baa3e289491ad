"""How to reach a store: the recipe's five keys, and how long to insist."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class StorageOptions:
    """What the recipe may say of a store; credentials are never among it.

    They come from the environment and the cloud's usual chain: variables, shared profiles, web identity, instance metadata.

    Args:
        endpoint: Url of an S3-compatible server; None takes AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL or the cloud's own.
        region: None takes AWS_REGION, the profile's, or us-east-1.
        profile: Name in ~/.aws/config and ~/.aws/credentials; None takes the variables first, then AWS_PROFILE.
        anonymous: Sign nothing; for public buckets.
        allow_http: Whether an endpoint without TLS may be used; AWS_ALLOW_HTTP=true says so too.
    """

    endpoint: str | None = None
    region: str | None = None
    profile: str | None = None
    anonymous: bool = False
    allow_http: bool = False

    def __post_init__(self) -> None:
        if self.endpoint is not None and "@" in self.endpoint:  # first: the next message shows the endpoint
            msg = "endpoint: holds a name or secret before an @; credentials come from the environment, never from a recipe"
            raise ValueError(msg)
        if self.endpoint is not None and not self.endpoint.startswith(("http://", "https://")):
            msg = f"endpoint: {self.endpoint!r} is no url; write http://host:port or https://host"
            raise ValueError(msg)
        if self.anonymous and self.profile is not None:
            msg = f"anonymous: true signs nothing, and profile: {self.profile!r} names what to sign with; keep one of them"
            raise ValueError(msg)


@dataclass(frozen=True)
class Patience:
    """How long a store may keep us waiting.

    Args:
        connect_s: Seconds for one connection to come about.
        stall_s: Seconds one request may stay without a byte.
        retry_s: Seconds after which a request that keeps failing for a passing reason (5xx, throttling, a dropped or refused
            connection) is given up.
    """

    connect_s: float = 5.0
    stall_s: float = 30.0
    retry_s: float = 900.0


# A quarter of an hour: a store that restarts or throttles at night must cost minutes, not the build.
STEADY = Patience()
# For the question whether a store is there at all: an answer, or none, within a dozen seconds.
PROMPT = Patience(connect_s=3.0, stall_s=5.0, retry_s=6.0)
