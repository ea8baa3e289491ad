from __future__ import annotations

import gzip
import io
import os
import random
import tarfile
import zlib
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from ray_prep.errors import SampleError, StorageError
from ray_prep.sources import container as container_module
from ray_prep.sources import gunzip, tar_samples
from ray_prep.sources.webdataset import WebDataset

if TYPE_CHECKING:
    from pathlib import Path

    from ray_prep.sample import Item

PNG = b"\x89PNG\r\n\x1a\n"
JPEG = b"\xff\xd8\xff\xe0"


def pack(members: list[tuple[str, bytes]], tar_format: int = tarfile.PAX_FORMAT) -> bytes:
    """Return a tar of files."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tar_format) as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def read(tmp_path: Path, data: bytes, name: str = "a.tar") -> tuple[list[tuple[Item, bytes | SampleError]], Counter[str]]:
    """Write a container and return its members, and what was ignored in it."""
    (tmp_path / name).write_bytes(data)
    source = WebDataset(str(tmp_path / name))
    (item,) = source.items(Counter())
    ignored: Counter[str] = Counter()
    return list(source.members(item, ignored=ignored)), ignored


def outcomes(tmp_path: Path, data: bytes, name: str = "a.tar") -> dict[str, Any]:
    """Return the bytes, or the reason, under each key; keys must be unique."""
    found, _ = read(tmp_path, data, name)
    ends = {item.key: end.reason if isinstance(end, SampleError) else end for item, end in found}
    assert len(ends) == len(found)
    return ends


SAMPLES = [
    (f"s/{number:03}.{extension}", data)
    for number in range(12)
    for extension, data in (("cls", str(number % 3).encode()), ("jpg", JPEG + bytes([number]) * (200 + 97 * number)), ("txt", b"caption"))
]
PICTURES = {name.removesuffix(".jpg"): data for name, data in SAMPLES if name.endswith(".jpg")}


@pytest.mark.slow  # its import takes two seconds
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # webdataset 1.0.2 leaves its files open
def test_what_the_library_writes(tmp_path: Path) -> None:
    """A tar of webdataset's own TarWriter, packed or not: bytes, labels, captions and metadata as its reader finds them."""
    webdataset = pytest.importorskip("webdataset")
    for name in ("w.tar", "w.tar.gz"):
        with webdataset.TarWriter(str(tmp_path / name)) as writer:
            for number in range(5):
                writer.write(
                    {"__key__": f"dir/{number:04}", "png": PNG + bytes([number]), "cls": number, "json": {"n": number}, "txt": "ü"}
                )
        source = WebDataset(str(tmp_path / name))
        (item,) = source.items(Counter())
        found = list(source.members(item))
        theirs = list(webdataset.WebDataset(str(tmp_path / name), shardshuffle=False))
        assert [one.key for one, _ in found] == [f"{name}/{sample['__key__']}" for sample in theirs]
        assert [end for _, end in found] == [sample["png"] for sample in theirs]
        assert [(one.label, one.label_id) for one, _ in found] == [(str(number), number) for number in range(5)]
        assert [one.columns for one, _ in found] == [{"json": f'{{"n": {number}}}', "txt": "ü"} for number in range(5)]
        assert {one.version for one, _ in found} == {item.version}
        assert found[0][0].uri == f"{tmp_path}/{name}#dir/0000.png"


def test_tars_are_listed_and_nothing_else(tmp_path: Path) -> None:
    """Containers by suffix, in order; hidden ones and other files are ignored and counted; the split by folder or by name."""
    for name in ("train/b.TAR", "train/a.tgz", "x-val-0.tar.gz", "_old/c.tar", "list.txt", "image.jpg", "x.tar.zst", "plain.tar"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(pack([]))
    ignored: Counter[str] = Counter()
    items = list(WebDataset(str(tmp_path)).items(ignored))
    assert [(item.key, item.split) for item in items] == [
        ("plain.tar", None),
        ("train/a.tgz", "train"),
        ("train/b.TAR", "train"),
        ("x-val-0.tar.gz", "val"),
    ]
    assert ignored == {".tar": 1, ".txt": 1, ".jpg": 1, ".tar.zst": 1}
    assert [item.key for item in WebDataset(str(tmp_path), include=("train/**",), exclude=("**/*.tgz",)).items(Counter())] == [
        "train/b.TAR"
    ]


def test_a_place_without_tars(tmp_path: Path) -> None:
    """A folder without tars, and a tar that is not there, are StorageErrors that say what is there."""
    (tmp_path / "a.jpg").write_bytes(JPEG)
    with pytest.raises(StorageError, match=r"lists no tar; ignored: 1 \.jpg"):
        list(WebDataset(str(tmp_path)).items(Counter()))
    with pytest.raises(StorageError, match="no such folder"):
        list(WebDataset(str(tmp_path / "no.tar")).items(Counter()))


@pytest.mark.parametrize(
    ("text", "label", "label_id"),
    [
        (b"7", "7", 7),
        (b" 007\n", "7", 7),
        (b"cat\n", "cat", None),
        ("Köln".encode(), "Köln", None),
        (b"-1", None, None),
        (b"", None, None),
        (b"3.5", "3.5", None),
        (b"2147483647", "2147483647", 2147483647),
    ],
)
def test_labels(tmp_path: Path, text: bytes, label: str | None, label_id: int | None) -> None:
    """A whole number is number and name of a class, another text its name, -1 and nothing are none."""
    ((item, _),), _ = read(tmp_path, pack([("a.cls", text), ("a.jpg", JPEG)]))
    assert (item.label, item.label_id) == (label, label_id)


@pytest.mark.parametrize("text", [b"\xff\xfe\x00", b"-2", b"2147483648", b"99999999999999999999"])
def test_labels_that_are_none(tmp_path: Path, text: bytes) -> None:
    """A label that can be neither name nor number rejects its sample, and no other."""
    data = pack([("a.cls", text), ("a.jpg", JPEG), ("b.jpg", JPEG + b"b")])
    assert outcomes(tmp_path, data) == {"a.tar/a": "annotation_invalid", "a.tar/b": JPEG + b"b"}


@pytest.mark.parametrize(
    ("names", "keys", "ignored"),
    [
        pytest.param(["a.jpg", "a.seg.png"], {"a": "a.jpg"}, {".png": 1}, id="a mask has a longer extension"),
        pytest.param(["a.depth.png", "a.edges.png", "a.jpg"], {"a": "a.jpg"}, {".png": 2}, id="masks may come first"),
        pytest.param(["a.png", "a.jpg"], {"a": "a.jpg"}, {".png": 1}, id="jpg before png"),
        pytest.param(["a.PNG", "a.mp4"], {"a": "a.PNG"}, {".mp4": 1}, id="letter case means nothing"),
        pytest.param(["a.json", "a.rgb.png", "a.seg.png"], {"a": "a.rgb.png"}, {".png": 1}, id="no plain picture: the first"),
        pytest.param(["d.1.jpg", "d.2.jpg", "d.3.jpg"], {"d.1": "d.1.jpg", "d.2": "d.2.jpg", "d.3": "d.3.jpg"}, {}, id="names with dots"),
        pytest.param(["a.v2.jpg"], {"a.v2": "a.v2.jpg"}, {}, id="one name with dots"),
        pytest.param(["x/a.jpg", "y/a.jpg", "a.jpg"], {"x/a": "x/a.jpg", "y/a": "y/a.jpg", "a": "a.jpg"}, {}, id="folders tell apart"),
        pytest.param(["a.bin", "b"], {"a": "a.bin", "b": "b"}, {}, id="known by its bytes"),
        pytest.param(["a.jpg", "a.npy", "a.xml", "README.md"], {"a": "a.jpg"}, {".npy": 1, ".xml": 1, ".md": 1}, id="sidecars"),
        pytest.param(
            ["./a.jpg", "/b.jpg", "../../c.jpg", "d//e.jpg"], {n: f"{n}.jpg" for n in ("a", "b", "c", "d/e")}, {}, id="only names"
        ),
        pytest.param(["__MACOSX/a.jpg", "._a.jpg", ".x/a.jpg", "a.jpg"], {"a": "a.jpg"}, {".jpg": 3}, id="hidden"),
        pytest.param(["v1.0/a.jpg", "v1.0/b.c.jpg"], {"v1.0/a": "v1.0/a.jpg", "v1.0/b.c": "v1.0/b.c.jpg"}, {}, id="a folder with a dot"),
    ],
)
def test_which_member_is_the_image(tmp_path: Path, names: list[str], keys: dict[str, str], ignored: dict[str, int]) -> None:
    """Names make samples as the webdataset library has it; every picture is in one, or counted as ignored."""
    found, left_out = read(tmp_path, pack([(name, PNG + name.rpartition("./")[2].encode()) for name in names]))
    assert {item.key.removeprefix("a.tar/"): item.uri.partition("#")[2] for item, _ in found} == keys
    assert left_out == ignored
    for item, end in found:
        assert isinstance(end, bytes)
        assert end.endswith(item.uri.rpartition("/")[2].partition("#")[2].encode())


def test_bytes_decide_where_no_name_does(tmp_path: Path) -> None:
    """Of members without a known extension the first that is a picture; one that is none is handed to the decoder, which says why."""
    data = pack([("a.x", b"no"), ("a.y", PNG), ("a.z", JPEG), ("b.x", b"%PDF-1.4"), ("c", b"text")])
    assert outcomes(tmp_path, data) == {"a.tar/a": PNG, "a.tar/b": b"%PDF-1.4", "a.tar/c": b"text"}


def test_many_names_with_dots_need_no_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures whose names agree up to the first dot are handed on before all of them have come."""
    monkeypatch.setattr(tar_samples, "_UNDECIDED", 4)
    data = pack([(f"d.{number}.jpg", JPEG + bytes([number])) for number in range(50)])
    (tmp_path / "a.tar").write_bytes(data)
    source = WebDataset(str(tmp_path / "a.tar"))
    (item,) = source.items(Counter())
    opened: list[Any] = []
    kept = tar_samples._Group._settled
    monkeypatch.setattr(tar_samples._Group, "_settled", lambda group: opened.append(len(group._stems)) or kept(group))
    assert [end for _, end in source.members(item)] == [JPEG + bytes([number]) for number in range(50)]
    assert max(opened) == 4


def test_a_sample_without_a_picture(tmp_path: Path) -> None:
    """Siblings without a picture are a rejection; where they stand apart from it, the picture is not taken without its label."""
    assert outcomes(tmp_path, pack([("a.cls", b"1"), ("b.jpg", JPEG)])) == {"a.tar/a": "missing", "a.tar/b": JPEG}
    found, _ = read(tmp_path, pack([("a.cls", b"1"), ("b.jpg", JPEG), ("a.jpg", JPEG)]))
    assert [(item.key, end.reason if isinstance(end, SampleError) else "") for item, end in found] == [
        ("a.tar/a", "missing"),
        ("a.tar/b", ""),
        ("a.tar/a", "duplicate_key"),
    ]


def test_a_key_that_comes_again(tmp_path: Path) -> None:
    """The first stays, each other is a rejection with a uri of its own."""
    found, _ = read(tmp_path, pack([("a.jpg", JPEG), ("a.jpg", PNG), ("b#.jpg", JPEG), ("a.jpg", b"x")]))
    assert [(item.key, end.reason if isinstance(end, SampleError) else end) for item, end in found] == [
        ("a.tar/a", JPEG),
        ("a.tar/a", "duplicate_key"),
        ("a.tar/b#", JPEG),
        ("a.tar/a", "duplicate_key"),
    ]
    uris = [item.uri for item, _ in found]
    assert len(set(uris)) == 4
    assert {uri.rpartition("#")[0] for uri in uris} == {f"{tmp_path}/a.tar"}


@pytest.mark.parametrize("tar_format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_formats_of_tars(tmp_path: Path, tar_format: int) -> None:
    """Long names, names beyond ASCII, folders and an empty picture read the same from each format."""
    names = ["short.jpg", "/".join(["folder" * 9] * 3) + "/long.jpg", "ü€/ß.jpg"]
    data = pack([*((name, JPEG + name.encode()) for name in names), ("empty.jpg", b"")], tar_format)
    assert outcomes(tmp_path, data) == {f"a.tar/{name[:-4]}": JPEG + name.encode() for name in names} | {"a.tar/empty": b""}


def test_names_that_are_not_utf8(tmp_path: Path) -> None:
    """Other bytes in a name are escaped in key and uri."""
    data = pack([("caf\udce9.jpg", JPEG)], tarfile.GNU_FORMAT)
    ((item, end),), _ = read(tmp_path, data)
    assert (item.key, item.uri.partition("#")[2], end) == ("a.tar/caf%E9", "caf%E9.jpg", JPEG)


def test_links_and_pieces_are_told(tmp_path: Path) -> None:
    """A link has no bytes of its own and is unsupported, as is a file stored in pieces; devices and folders are passed over."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for name, kind in (
            ("hard.jpg", tarfile.LNKTYPE),
            ("soft.jpg", tarfile.SYMTYPE),
            ("dir", tarfile.DIRTYPE),
            ("pipe", tarfile.FIFOTYPE),
        ):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "a.jpg"
            tar.addfile(info)
        info = tarfile.TarInfo("a.jpg")
        info.size = 4
        tar.addfile(info, io.BytesIO(JPEG))
    assert outcomes(tmp_path, out.getvalue()) == {"a.tar/hard": "unsupported", "a.tar/soft": "unsupported", "a.tar/a": JPEG}


def test_gnu_tar_writes_sparse_files(tmp_path: Path) -> None:
    """What `tar --sparse` makes of a file with holes, in each of its ways, is told and does not hide what follows."""
    import shutil
    import subprocess

    if shutil.which("tar") is None:
        pytest.skip("needs tar")
    folder = tmp_path / "f"
    folder.mkdir()
    with (folder / "a.jpg").open("wb") as file:
        for number in range(12):
            file.seek(number << 20)
            file.write(b"x" * 4096)
    (folder / "b.jpg").write_bytes(JPEG)
    for options in (["-H", "gnu"], ["-H", "pax", "--sparse-version=0.1"], ["-H", "pax", "--sparse-version=1.0"]):
        made = subprocess.run(["tar", *options, "-S", "-cf", "-", "-C", str(folder), "a.jpg", "b.jpg"], check=True, capture_output=True)
        if len(made.stdout) > 1 << 20:
            pytest.skip("this file system keeps no holes")
        assert outcomes(tmp_path, made.stdout) == {"a.tar/a": "unsupported", "a.tar/b": JPEG}


def test_a_tar_cut_anywhere(tmp_path: Path) -> None:
    """What was whole before the cut comes as it is, with its label, and one rejection tells of the rest: never nothing."""
    whole = pack(SAMPLES)
    end = whole.rstrip(b"\0")
    for cut in [*range(0, len(end) + 512, 311), len(end), *range(512, 512 * 8, 512)]:
        found, _ = read(tmp_path, whole[:cut])
        *samples, (last, fault) = found
        assert isinstance(fault, SampleError)
        assert (last.key, fault.reason) == ("a.tar", "empty" if cut == 0 else "truncated")
        for number, (item, data) in enumerate(samples):
            assert item.key == f"a.tar/s/{number:03}"
            assert data == PICTURES[f"s/{number:03}"]
            assert item.label_id == number % 3
        assert len(samples) >= (cut // 512 - 16) // 8


def test_packed_tars_cut_anywhere(tmp_path: Path) -> None:
    """The same for a packed tar, in one part or several."""
    whole = pack(SAMPLES)
    for packed in (gzip.compress(whole), gzip.compress(whole[:5000]) + gzip.compress(whole[5000:])):
        assert len(read(tmp_path, packed, "a.tgz")[0]) == 12
        assert len(read(tmp_path, packed, "mislabelled.tar")[0]) == 12
        for cut in range(2, len(packed) - 1, 41):
            found, _ = read(tmp_path, packed[:cut], "a.tar.gz")
            assert isinstance(found[-1][1], SampleError)
            assert found[-1][0].key == "a.tar.gz"
            assert [data for _, data in found[:-1]] == list(PICTURES.values())[: len(found) - 1]


def test_damaged_tars(tmp_path: Path) -> None:
    """Garbage between members, a wrong checksum, another file under the name: what was read stays, one rejection says what is wrong."""
    one, other = pack(SAMPLES[:6]).rstrip(b"\0"), pack(SAMPLES[6:])
    one += bytes(-len(one) % 512)
    wrong_sum = bytearray(gzip.compress(one + other))
    wrong_sum[-6] ^= 1
    cases = {
        "garbage": (one + b"garbage!" * 64 + other, 1, "corrupt"),
        "sum": (bytes(wrong_sum), 12, "corrupt"),
        "stream": (gzip.compress(one)[:-150] + b"\xff" * 150, None, "corrupt"),
        "page": (b"<html>Not found</html>" * 90, 0, "corrupt"),
        "zstd": (b"\x28\xb5\x2f\xfd" + bytes(600), 0, "unsupported"),
        "behind": (one + bytes(1024) + b"behind the end" * 64, 2, "corrupt"),
    }
    for name, (data, count, reason) in cases.items():
        found, _ = read(tmp_path, data, f"{name}.tar")
        assert isinstance(found[-1][1], SampleError)
        assert (found[-1][0].key, found[-1][1].reason) == (f"{name}.tar", reason), name
        assert count is None or len(found) - 1 == count, name


def test_several_tars_in_one_file(tmp_path: Path) -> None:
    """Tars written one after the other are read to the end of the last."""
    data = pack(SAMPLES[:18]) + pack(SAMPLES[18:])
    assert list(outcomes(tmp_path, data).values()) == list(PICTURES.values())
    assert outcomes(tmp_path, pack([])) == {}


def test_damage_anywhere_ends_well(tmp_path: Path) -> None:
    """Flipped bytes, in a tar as it is or under gzip: samples or rejections, and nothing is lost without a word."""
    rng = random.Random(3)
    whole = pack(SAMPLES[:9], tarfile.GNU_FORMAT)
    for number in range(200):
        data = bytearray(whole)
        for _ in range(rng.choice([1, 3, 20])):
            data[rng.randrange(len(data))] = rng.randrange(256)
        packed = bytes(data) if number % 3 else gzip.compress(bytes(data), 1)
        found, ignored = read(tmp_path, packed)
        assert len(found) + ignored.total() >= 3 or isinstance(found[-1][1], SampleError)


def test_numbers_that_no_tar_can_mean(tmp_path: Path) -> None:
    """Sizes below zero or beyond the file, and names of gigabytes, are damage and take no memory."""

    def header(size_field: bytes, kind: bytes) -> bytes:
        block = bytearray(tarfile.TarInfo("a.jpg").tobuf(tarfile.GNU_FORMAT))
        block[124:136], block[156:157] = size_field, kind
        block[148:156] = b" " * 8
        block[148:156] = b"%06o\0 " % sum(block)
        return bytes(block)

    for size_field, kind, reason in (
        (b"\xff" * 12, b"0", "corrupt"),
        (b"\x80" + b"\0" * 3 + b"\1" + b"\0" * 7, b"0", "truncated"),
        (b"77777777777\0", b"L", "corrupt"),
        (b"77777777777\0", b"x", "corrupt"),
        (b"00000000010\0", b"x", "truncated"),
    ):
        data = pack([("y.jpg", PNG + b"y"), ("z.jpg", JPEG)]).rstrip(b"\0") + b"\0" * 508 + header(size_field, kind) + bytes(2048)
        assert outcomes(tmp_path, data) == {"a.tar/y": PNG + b"y", "a.tar": reason} | (
            {"a.tar/z": JPEG} if kind == b"0" and reason == "truncated" else {}
        )


def test_bombs_are_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that unpacks to hundreds of times its size is stopped, and what came before it stays."""
    monkeypatch.setattr(gunzip, "_BOMB_BYTES", 4 << 20)
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    info = tarfile.TarInfo("b.jpg")
    info.size = 1 << 30
    packed = packer.compress(pack([("a.jpg", JPEG)])[:1024] + info.tobuf())
    packed += b"".join(packer.compress(bytes(1 << 20)) for _ in range(32)) + packer.flush()
    assert outcomes(tmp_path, packed, "a.tgz") == {"a.tgz/a": JPEG, "a.tgz": "too_large"}


def test_large_members_are_passed_by(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A picture above the limit is rejected unread, as is a sample with a label of megabytes; the next ones are there."""
    monkeypatch.setattr(tar_samples, "MAX_IMAGE_BYTES", 1000)
    monkeypatch.setattr(tar_samples, "_MAX_SIBLING_BYTES", 100)
    data = pack([("a.jpg", bytes(1001)), ("b.jpg", bytes(1000)), ("c.cls", bytes(101)), ("c.jpg", JPEG), ("d.jpg", JPEG)])
    assert outcomes(tmp_path, data) == {"a.tar/a": "too_large", "a.tar/b": bytes(1000), "a.tar/c": "annotation_invalid", "a.tar/d": JPEG}


def test_a_tar_that_is_gone(tmp_path: Path) -> None:
    """A tar that was removed after it was listed is one rejection; one that may not be read stops the build."""
    (tmp_path / "a.tar").write_bytes(pack(SAMPLES))
    source = WebDataset(str(tmp_path))
    (item,) = source.items(Counter())
    (tmp_path / "a.tar").unlink()
    ((same, fault),) = source.members(item)
    assert isinstance(fault, SampleError)
    assert (same, fault.reason) == (item, "missing")
    (tmp_path / "a.tar").mkdir()
    with pytest.raises(StorageError):
        list(source.members(item))


def test_faults_of_the_disk_are_no_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error while reading is the storage's, not the picture's."""
    (tmp_path / "a.tar").write_bytes(pack(SAMPLES))
    source = WebDataset(str(tmp_path))
    (item,) = source.items(Counter())

    def fail(_work: Any) -> None:
        raise OSError(5, os.strerror(5))

    monkeypatch.setattr(container_module, "partial", lambda *_: lambda: fail(None))
    with pytest.raises(StorageError, match="Input/output error"):
        list(source.members(item))


def test_members_beside_folders(tmp_path: Path) -> None:
    """The split of a member without one from its tar is what its own first folder says."""
    found, _ = read(tmp_path, pack([("val/a.jpg", JPEG), ("b.jpg", JPEG)]))
    assert [item.split for item, _ in found] == ["val", None]
    found, _ = read(tmp_path, pack([("val/a.jpg", JPEG)]), "train-0.tar")
    assert [item.split for item, _ in found] == ["train"]
