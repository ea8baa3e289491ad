"""A dataset in an object store is verified as one on disk is; an outage is no damage."""

from __future__ import annotations

from typing import Any

import pytest

from ray_prep.build import build
from ray_prep.dataset.table import open_table
from ray_prep.dataset.verify import verify
from ray_prep.errors import StorageError
from ray_prep.recipe import Recipe
from ray_prep.reproduction import reproduce
from ray_prep.storage import StorageOptions, open_store

pytestmark = [pytest.mark.s3, pytest.mark.timeout(120)]


def test_damage_in_a_bucket_is_found_and_an_outage_is_an_error(collection: Any, moto_server: Any) -> None:
    """Nothing is wrong at first; then an object is gone, one is cut; then nobody answers."""
    bucket = moto_server.new_bucket()
    moto_server.upload_folder(bucket, collection.folder, "pictures")
    options = {"endpoint": moto_server.endpoint, "region": "us-east-1", "allow_http": True}
    source = {"uri": f"s3://{bucket}/pictures", "layout": "class_folders", "storage_options": options}
    uri = f"s3://{bucket}/dataset"
    build(Recipe.parse(collection.data(source=source, output={"uri": uri})), workers=0)
    reached = StorageOptions(**options)
    found = verify(uri, reached, sample=40, has_stored_sums=lambda _record: True)
    assert (found.findings, found.rows, found.decoded) == ([], 40, 40)
    assert found.snapshot is not None
    assert found.record is not None
    made = reproduce(found.snapshot, found.record, reached, 10)
    assert (made.findings, made.notes, made.rows) == ([], [], 10)

    snapshot = open_table(uri, reached)
    assert snapshot is not None
    gone, cut = (shard.path for shard in snapshot.shards[:2])
    store = open_store(uri, reached)
    store.delete(gone)
    store.put(cut, store.get(cut)[:-50])
    texts = {finding.place: finding.what for finding in verify(uri, reached).findings}
    assert texts.keys() == {gone, cut}
    assert "is not there" in texts[gone]
    assert "it was cut" in texts[cut]

    with pytest.raises(StorageError, match=r"127\.0\.0\.1:9"):
        verify(uri, StorageOptions(**{**options, "endpoint": "http://127.0.0.1:9"}))
