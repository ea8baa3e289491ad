"""The main job against Ceph, which checks signatures and conditional writes as AWS does."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ray_prep.build import build
from ray_prep.cli import run
from ray_prep.dataset.reader import open as open_dataset
from ray_prep.recipe import Recipe

pytestmark = [pytest.mark.real_s3, pytest.mark.timeout(300)]


def recipe(collection: Any, server: Any, bucket: str) -> Recipe:
    """Return a recipe from and to a bucket."""
    options = {"endpoint": server.endpoint, "region": "us-east-1", "allow_http": True}
    source = {"uri": f"s3://{bucket}/pictures", "layout": "class_folders", "storage_options": options}
    return Recipe.parse(collection.data(f"s3://{bucket}/dataset", source=source))


def test_build_again_and_after_a_change(collection: Any, ceph_server: Any) -> None:
    """A build, the same again, one image more: versions 0, 0 and 1, the pixels of a build on disk."""
    bucket = ceph_server.new_bucket()
    ceph_server.upload_folder(bucket, collection.folder, "pictures")
    made = recipe(collection, ceph_server, bucket)
    assert build(made, workers=2).version == 0
    assert build(made, workers=0).decoded == 0
    ceph_server.upload(bucket, {"pictures/owl/new.jpg": collection.pictures["owl/05.jpg"]})
    report = build(made, workers=0)
    assert (report.version, report.added, report.unchanged, report.accepted) == (1, 1, 42, 41)
    collection.write("owl/new.jpg", collection.pictures["owl/05.jpg"])
    build(collection.recipe(), workers=0)
    there = open_dataset(f"s3://{bucket}/dataset", storage_options=made.source.storage_options).to_arrow(columns=["key", "image"])
    here = open_dataset(str(collection.target)).to_arrow(columns=["key", "image"])
    assert dict(zip(*there.to_pydict().values(), strict=True)) == dict(zip(*here.to_pydict().values(), strict=True))


@pytest.mark.parametrize("name", ["AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID"])
def test_a_wrong_key_is_refused(
    collection: Any, ceph_server: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    """Exit 3 and one line that says what was refused, without the key."""
    bucket = ceph_server.new_bucket()
    ceph_server.upload_folder(bucket, collection.folder, "pictures")
    path = collection.home / "s3.yaml"
    path.write_text(json.dumps(dict(recipe(collection, ceph_server, bucket).data)))
    monkeypatch.setenv(name, "wrong-and-private")
    assert run(["build", str(path), "--workers", "0"]) == 3
    error = capsys.readouterr().err
    assert "refuses access (403" in error
    assert "wrong-and-private" not in error
    assert "Traceback" not in error
