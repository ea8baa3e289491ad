from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from ray_prep.errors import StorageError
from ray_prep.image.fetch import fetch
from ray_prep.sources.files import Files
from ray_prep.storage import StorageOptions, open_store

pytestmark = pytest.mark.real_s3


def test_a_real_server_takes_and_gives(ceph_server: Any) -> None:
    """Odd keys, conditional writes, listing and fetching against Ceph, which checks every signature."""
    bucket = ceph_server.new_bucket()
    store = open_store(f"s3://{bucket}/photos of 2024")
    store.check()
    keys = ("a.jpg", "b c.jpg", "d//e.jpg", "f+g%20h#i.jpg", "j?k&l.jpg", "ü/€.jpg", "new\nline.jpg", "bell\x07.jpg")
    for key in keys:
        store.put(key, key.encode())
    items = list(Files(store.uri).items(Counter()))
    assert sorted(item.key for item in items) == sorted(keys)
    with fetch(items) as fetched:
        assert {item.key: data for item, data in fetched} == {key: key.encode() for key in keys}
    assert store.create("lease", b"1")
    assert not store.create("lease", b"2")


def test_a_missing_bucket_is_named(ceph_server: Any) -> None:
    """A bucket that is not there is told from a refusal."""
    bucket = ceph_server.new_bucket() + "-not"
    with pytest.raises(StorageError, match=f"there is no bucket '{bucket}'"):
        open_store(f"s3://{bucket}").check()


@pytest.mark.parametrize("name", ["AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID"])
def test_wrong_keys_are_refused_without_being_shown(ceph_server: Any, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """A wrong secret or key fails every operation at once, in a line that does not hold it."""
    bucket = ceph_server.new_bucket()
    monkeypatch.setenv(name, "wrong-and-private")
    store = open_store(f"s3://{bucket}/p")
    for operation in (
        store.check,
        lambda: list(store.list()),
        lambda: store.get("x"),
        lambda: store.put("x", b""),
        lambda: store.create("x", b""),
    ):
        with pytest.raises(StorageError, match=r"refuses access \(403 (SignatureDoesNotMatch|InvalidAccessKeyId)\)") as caught:
            operation()
        assert "wrong-and-private" not in str(caught.value)
        assert "\n" not in str(caught.value)


def test_anonymous_is_refused_where_the_bucket_is_private(ceph_server: Any) -> None:
    """`anonymous: true` signs nothing, though keys stand in the environment."""
    bucket = ceph_server.new_bucket()
    options = StorageOptions(anonymous=True)
    for operation in (open_store(f"s3://{bucket}", options).check, lambda: open_store(f"s3://{bucket}", options).get("x")):
        with pytest.raises(StorageError, match="403 AccessDenied"):
            operation()
