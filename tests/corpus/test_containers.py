"""Real containers, and real pictures packed into containers: what is read from them is what was put in."""

from __future__ import annotations

import io
import tarfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pytest
from pyarrow import parquet

from ray_prep.errors import RecipeError, SampleError
from ray_prep.image.decode import Decode, decode
from ray_prep.image.header import read_header
from ray_prep.sources.files import Files
from ray_prep.sources.parquet import ParquetImages
from ray_prep.sources.webdataset import WebDataset
from ray_prep.storage import Stores

if TYPE_CHECKING:
    from ray_prep.sample import Item

CORPORA = Path(__file__).parents[3] / "shared" / "corpora"
CONTAINERS = CORPORA / "containers"

pytestmark = [pytest.mark.corpus, pytest.mark.skipif(not CORPORA.is_dir(), reason="the corpora are not here")]


def _members(source: WebDataset | ParquetImages) -> list[tuple[Item, bytes | SampleError]]:
    return [member for item in source.items(Counter()) for member in source.members(item)]


def _size(data: bytes | SampleError) -> tuple[int, ...]:
    """Decode a picture and return its height, width and channels."""
    assert isinstance(data, bytes), data
    return decode(data, read_header(data), Decode()).shape


def _folder(name: str) -> dict[str, bytes]:
    """Return the pictures of a corpus folder by path, of each stem one."""
    found = {}
    stores = Stores(Files("x").storage_options)
    for item in Files(str(CORPORA / name)).items(Counter()):
        store, path = stores.of(item.uri)
        found.setdefault(item.key.partition(".")[0], (item.key, store.get(path)))
    return dict(found.values())


def test_digits_of_the_webdataset_project() -> None:
    """Ninety PNGs of 28x28 pixels with a label each."""
    found = _members(WebDataset(str(CONTAINERS / "webdataset_mnist_sample.tgz")))
    assert len(found) == 90
    assert {_size(data) for _, data in found} == {(28, 28, 3)}
    assert {item.label_id for item, _ in found} == set(range(10))
    assert all(item.label == str(item.label_id) for item, _ in found)
    with tarfile.open(CONTAINERS / "webdataset_mnist_sample.tgz") as tar:
        inside = {member.name: tar.extractfile(member).read() for member in tar.getmembers()}  # type: ignore[union-attr]
    for item, data in found:
        stem = item.key.removeprefix("webdataset_mnist_sample.tgz/")
        assert data == inside[f"{stem}.png"]
        assert item.label == inside[f"{stem}.cls"].decode()


def test_a_tar_of_another_tool() -> None:
    """One JPEG of 4x4 pixels without siblings."""
    ((item, data),) = _members(WebDataset(str(CONTAINERS / "nemo_curator_00000.tar")))
    assert (item.key, _size(data), item.label) == ("nemo_curator_00000.tar/000000", (4, 4, 3), None)


def test_pictures_in_a_column() -> None:
    """Ten PNGs beside columns of bytes, decimals and numbers, written by Spark."""
    source = ParquetImages(str(CONTAINERS / "petastorm_png_column_0.parquet"), columns={"image": "image_png"})
    found = _members(source)
    assert [item.key for item, _ in found] == [str(number) for number in range(10)]
    assert all(_size(data) for _, data in found)
    schema = source.carried_columns()
    assert schema.field("decimal").type == pa.string()
    assert pa.Table.from_pylist([dict(item.columns) for item, _ in found], schema=schema).num_rows == 10


def test_parquet_without_pictures() -> None:
    """A table that only names pictures is refused, and the message says what it is."""
    with pytest.raises(RecipeError, match=r"no column holds images as bytes.*manifest"):
        ParquetImages(str(CONTAINERS / "img2dataset_bbox.parquet")).carried_columns()


def test_containers_among_others() -> None:
    """Of a folder with both, each layout takes its own."""
    assert len(list(WebDataset(str(CONTAINERS)).items(Counter()))) == 2
    assert len(list(ParquetImages(str(CONTAINERS)).items(Counter()))) == 2


@pytest.mark.parametrize("name", ["odd-modes", "hostile", "exif-orientation"])
def test_packed_pictures_are_the_same_bytes(name: str, tmp_path: Path) -> None:
    """A folder packed into a tar, a packed tar or Parquet gives the bytes of its files, under their names."""
    pictures = _folder(name)
    for suffix, mode in ((".tar", "w"), (".tar.gz", "w:gz")):
        path = tmp_path / f"a{suffix}"
        with tarfile.open(path, mode) as tar:
            for member, data in pictures.items():
                info = tarfile.TarInfo(member)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
        found = _members(WebDataset(str(path)))
        assert {item.uri.partition("#")[2]: data for item, data in found} == pictures
        assert {item.key for item, _ in found} == {f"a{suffix}/{member.rpartition('.')[0] or member}" for member in pictures}
    path = tmp_path / "a.parquet"
    parquet.write_table(pa.table({"image": list(pictures.values()), "id": list(pictures)}), path)
    assert {item.key: data for item, data in _members(ParquetImages(str(path)))} == pictures
