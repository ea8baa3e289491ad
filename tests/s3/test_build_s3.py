"""The main job from and to an object store: the same bytes as on disk, through faults, and in few requests."""

from __future__ import annotations

import json
import os
import time
from typing import Any

import pytest

from ray_prep.build import build
from ray_prep.cli import run
from ray_prep.dataset.reader import open as open_dataset
from ray_prep.errors import Damaged, RejectBudgetExceeded, StorageError
from ray_prep.recipe import Recipe
from ray_prep.storage import open_store

pytestmark = [pytest.mark.s3, pytest.mark.timeout(120)]

COPIES = {"copies": 2, "transforms": [{"RandomCrop": {"height": 24, "width": 24}}, {"HorizontalFlip": {"p": 0.5}}]}


def uploaded(collection: Any, server: Any) -> str:
    """Put the pictures of the collection into a new bucket and return its name."""
    bucket: str = server.new_bucket()
    server.upload_folder(bucket, collection.folder, "pictures")
    return bucket


def recipe(collection: Any, bucket: str, endpoint: str, **sections: Any) -> Recipe:
    """Return a recipe from and to a bucket."""
    options = {"endpoint": endpoint, "region": "us-east-1", "allow_http": True}
    source = {"uri": f"s3://{bucket}/pictures", "layout": "class_folders", "storage_options": options}
    return Recipe.parse(
        collection.data(**{"source": source, **sections, "output": {"uri": f"s3://{bucket}/dataset", **sections.get("output", {})}})
    )


def pixels(table: Any) -> dict[tuple[str, int], bytes]:
    """Return every stored image by key and copy."""
    columns = [table.column(name).to_pylist() for name in ("key", "copy", "image")]
    return {(key, copy): image for key, copy, image in zip(*columns, strict=True)}


def test_from_and_to_a_bucket(collection: Any, faulty_proxy: Any, moto_server: Any) -> None:
    """The same pixels as a build on disk; one GET an image, none of it twice; a second build fetches nothing."""
    bucket = uploaded(collection, moto_server)
    faulty_proxy.counts.clear()
    made = recipe(collection, bucket, faulty_proxy.endpoint, augment=COPIES)
    report = build(made, workers=0)
    assert (report.listed, report.accepted, report.rejected) == (42, 40, 2)
    assert {faulty_proxy.gets(f"{bucket}/pictures/{key}") for key in collection.pictures} == {1}
    assert not any(method == "HEAD" and "/pictures/" in key for method, key in faulty_proxy.counts)
    build(collection.recipe(augment=COPIES), workers=0)
    stored = open_dataset(f"s3://{bucket}/dataset", storage_options=made.source.storage_options)
    assert pixels(stored.to_arrow()) == pixels(open_dataset(str(collection.target)).to_arrow())
    assert len(stored) == report.rows
    faulty_proxy.counts.clear()
    again = build(made, workers=0)
    assert (again.decoded, again.is_published) == (0, False)
    assert sum(faulty_proxy.gets(f"{bucket}/pictures/{key}") for key in collection.pictures) == 0
    assert faulty_proxy.of_method("PUT") == 0


def test_workers_make_the_same(collection: Any, faulty_proxy: Any, moto_server: Any) -> None:
    """Two worker processes, each with its own connections, and a target of another name: equal shards by name."""
    bucket = uploaded(collection, moto_server)
    build(recipe(collection, bucket, faulty_proxy.endpoint), workers=0)
    other = recipe(collection, bucket, faulty_proxy.endpoint, output={"uri": f"s3://{bucket}/other"})
    build(other, workers=2)
    names = [
        [shard.path for shard in open_dataset(f"s3://{bucket}/{name}", storage_options=other.source.storage_options).shards]
        for name in ("dataset", "other")
    ]
    assert names[0] == names[1]


def test_faults_reject_nothing(collection: Any, faulty_proxy: Any, moto_server: Any) -> None:
    """503s, dropped connections, cut bodies and lost replies: every image is in, and the shards are those of a quiet build."""
    bucket = uploaded(collection, moto_server)
    build(recipe(collection, bucket, faulty_proxy.endpoint), workers=0)
    faulty_proxy.answer(503, times=6, method="GET", key="/pictures/")
    faulty_proxy.drop(times=4, method="GET", key="/pictures/")
    faulty_proxy.drop(times=3, method="GET", key=r"/pictures/.*\.jpg", after_bytes=100)
    faulty_proxy.answer(503, times=2, method="PUT", key="split=")
    faulty_proxy.answer(500, times=1, method="PUT", key="/work/", code="InternalError")
    faulty_proxy.drop(times=1, method="PUT", key="split=")
    faulty_proxy.lose_reply(times=1, method="PUT", key="_delta_log")
    noisy = recipe(collection, bucket, faulty_proxy.endpoint, output={"uri": f"s3://{bucket}/noisy"})
    report = build(noisy, workers=0)
    assert (report.accepted, report.rejected_by_reason) == (40, {"not_an_image": 1, "truncated": 1})
    names = [
        [shard.path for shard in open_dataset(f"s3://{bucket}/{name}", storage_options=noisy.source.storage_options).shards]
        for name in ("dataset", "noisy")
    ]
    assert names[0] == names[1]


def test_an_object_that_goes_while_the_build_runs(collection: Any, faulty_proxy: Any, moto_server: Any) -> None:
    """Listed and gone is `missing`, a rejection, and tried again; a refused one stops the build at once, as exit 3."""
    bucket = uploaded(collection, moto_server)
    faulty_proxy.answer(404, times=1, method="GET", key="/pictures/cat/06.jpg", code="NoSuchKey")
    report = build(recipe(collection, bucket, faulty_proxy.endpoint), workers=0)
    assert report.rejected_by_reason["missing"] == 1
    again = build(recipe(collection, bucket, faulty_proxy.endpoint), workers=0)
    assert (again.rejected_by_reason.get("missing", 0), again.accepted) == (0, report.accepted + 1)
    other = recipe(collection, bucket, faulty_proxy.endpoint, output={"uri": f"s3://{bucket}/other"})
    faulty_proxy.answer(403, times=100, method="GET", key="/pictures/", code="AccessDenied")
    with pytest.raises(StorageError, match=r"403 AccessDenied") as caught:
        build(other, workers=0)
    assert caught.value.exit_code == 3
    assert faulty_proxy.of_method("DELETE") <= 2


def test_a_refused_build_goes_on_from_its_receipts(collection: Any, faulty_proxy: Any, moto_server: Any) -> None:
    """Units finished in a bucket are found there: after the budget is raised, no image is fetched again."""
    bucket = uploaded(collection, moto_server)
    with pytest.raises(RejectBudgetExceeded):
        build(recipe(collection, bucket, faulty_proxy.endpoint, checks={"max_rejected": 0}), workers=0)
    faulty_proxy.counts.clear()
    report = build(recipe(collection, bucket, faulty_proxy.endpoint), workers=0)
    assert (report.decoded, report.accepted) == (0, 40)
    assert sum(faulty_proxy.gets(f"{bucket}/pictures/{key}") for key in collection.pictures) == 0


def test_a_manifest_of_uris(collection: Any, faulty_proxy: Any, moto_server: Any) -> None:
    """A manifest in the bucket, with relative and whole uris: versions come by HEAD, and only what changed is made again."""
    bucket = uploaded(collection, moto_server)
    names = sorted(collection.pictures)[:6]
    lines = [
        "image,label",
        *[f"pictures/{name},{name[:3]}" for name in names[:3]],
        *[f"s3://{bucket}/pictures/{name},{name[:3]}" for name in names[3:]],
    ]
    moto_server.upload(bucket, {"list.csv": "\n".join(lines).encode()})
    options = {"endpoint": faulty_proxy.endpoint, "region": "us-east-1", "allow_http": True}
    source = {"uri": f"s3://{bucket}/list.csv", "layout": "manifest", "storage_options": options}
    first = build(recipe(collection, bucket, faulty_proxy.endpoint, source=source, split=None), workers=0)
    assert (first.listed, first.accepted) == (6, 6)
    moto_server.upload(bucket, {f"pictures/{names[0]}": collection.pictures["cat/06.jpg"]})
    second = build(recipe(collection, bucket, faulty_proxy.endpoint, source=source, split=None), workers=0)
    assert (second.changed, second.unchanged) == (1, 5)


def command(collection: Any, made: Recipe, capsys: pytest.CaptureFixture[str], *more: str) -> tuple[int, str]:
    """Run `ray-prep build` on a recipe and return exit code and standard error."""
    path = collection.home / "s3.yaml"
    path.write_text(json.dumps(dict(made.data)))
    code = run(["build", str(path), "--workers", "0", *more])
    captured = capsys.readouterr()
    return code, captured.out + captured.err


@pytest.mark.parametrize("place", ["source", "output"])
def test_a_bucket_that_is_not_there(collection: Any, moto_server: Any, capsys: pytest.CaptureFixture[str], place: str) -> None:
    """A missing bucket of the source or the target is exit 3, named in one line, and no bucket is made."""
    bucket = uploaded(collection, moto_server)
    made = recipe(collection, bucket, moto_server.endpoint)
    code, text = command(collection, made, capsys, "--set", f"{place}.uri=s3://{bucket}-not/x")
    assert code == 3
    assert f"there is no bucket '{bucket}-not'" in text
    assert "Traceback" not in text
    with pytest.raises(StorageError):
        open_store(f"s3://{bucket}-not", made.source.storage_options).check()


def test_an_endpoint_that_nobody_answers_at(collection: Any, moto_server: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """Unreachable is exit 3 within 30 seconds, with the endpoint in the line and no secret."""
    bucket = uploaded(collection, moto_server)
    began = time.monotonic()
    code, text = command(collection, recipe(collection, bucket, "http://127.0.0.1:9"), capsys)
    assert code == 3
    assert time.monotonic() - began < 30
    assert "127.0.0.1:9" in text
    assert "Traceback" not in text
    assert os.environ["AWS_SECRET_ACCESS_KEY"] not in text


@pytest.mark.usefixtures("moto_server")
def test_a_local_source_and_a_target_that_nobody_answers_at(collection: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """The target is looked at before any work: exit 3 within 30 seconds, and no image was read."""
    began = time.monotonic()
    options = {"endpoint": "http://127.0.0.1:9", "allow_http": True}
    made = collection.recipe("s3://bucket/dataset", source={"uri": str(collection.folder), "storage_options": options})
    code, text = command(collection, made, capsys)
    assert code == 3
    assert time.monotonic() - began < 30
    assert "127.0.0.1:9" in text
    assert "building" not in text


def test_secrets_are_in_nothing(collection: Any, faulty_proxy: Any, moto_server: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """Neither output nor receipts, records, shards or log hold the key, the secret, userinfo or a signature."""
    bucket = uploaded(collection, moto_server)
    name = "pictures/cat/06.jpg"
    signed = f"s3://someone:hunter22pass@{bucket}/{name}?X-Amz-Signature=deadbeefcafe&token=tok3nvalue"
    moto_server.upload(bucket, {"list.csv": f"image\n{signed}\npictures/cat/gone.jpg?sig=abcdefsecret\n".encode()})
    options = {"endpoint": faulty_proxy.endpoint, "region": "us-east-1", "allow_http": True}
    source = {"uri": f"s3://{bucket}/list.csv", "layout": "manifest", "storage_options": options}
    made = recipe(collection, bucket, faulty_proxy.endpoint, source=source, split=None, checks={"max_rejected": 1, "min_images": 0})
    code, text = command(collection, made, capsys)
    assert code == 0, text
    faulty_proxy.answer(403, times=100, method="PUT", code="AccessDenied")
    refused, more = command(collection, made, capsys, "--set", f"output.uri=s3://{bucket}/refused")
    assert refused == 3
    for looked_at in ("dataset", "nothing"):
        for name, *key in (("log",), ("verify",), ("files",), ("rejects",), ("explain", "https://x:hunter22pass@h/k?sig=abcdefsecret")):
            target = f"s3://someone:hunter22pass@{bucket}/{looked_at}?sig=abcdefsecret"
            run([name, target, *key, "--endpoint", moto_server.endpoint])
            told = capsys.readouterr()
            more += told.out + told.err
    store = open_store(f"s3://{bucket}/dataset", made.source.storage_options)
    left = [store.get(entry.path) for entry in store.list() if not entry.path.endswith(".csv")]
    everything = (
        (text + more).encode()
        + b"".join(left)
        + repr(open_dataset(store.uri, storage_options=made.source.storage_options).to_arrow().to_pylist()).encode()
    )
    for secret in (os.environ["AWS_SECRET_ACCESS_KEY"], "hunter22pass", "deadbeefcafe", "tok3nvalue", "abcdefsecret"):
        assert secret.encode() not in everything, secret


def test_a_damaged_dataset_in_a_bucket_is_made_anew(collection: Any, moto_server: Any) -> None:
    """A shard that was deleted and one that was cut, and the record: each is named, and a rebuild is the way out, as on disk."""
    made = recipe(collection, uploaded(collection, moto_server), moto_server.endpoint)
    build(made, workers=0)
    store = open_store(made.output.uri, made.source.storage_options)
    first, last, *_ = sorted(entry.path for entry in store.list() if entry.path.startswith("split="))
    (record,) = (entry.path for entry in store.list("_ray_prep/builds") if entry.path.endswith("record.json"))
    store.delete(first)
    with pytest.raises(Damaged, match=f"{first} is not there"):
        build(made, workers=0)
    store.put(last, b"cut")
    store.delete(record)
    with pytest.raises(Damaged, match=r"record\.json is not there"):
        build(made, workers=0)
    report = build(made, workers=0, rebuild=True)
    assert (report.version, report.accepted, report.decoded) == (1, 40, 42)
    assert "damaged (files: 3, such as" in report.warnings[0]
    assert not build(made, workers=0).is_published
