from __future__ import annotations

import errno
import os
from collections import Counter
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ray_prep.errors import StorageError
from ray_prep.sources.class_folders import ClassFolders, class_folder
from ray_prep.sources.files import Files
from ray_prep.sources.listing import glob_pattern, ignored_as, key_of, split_folder, suffix_of

if TYPE_CHECKING:
    from pathlib import Path


def _write(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"1")


@pytest.mark.parametrize(
    ("glob", "matching", "other"),
    [
        ("**", ["a.jpg", "a/b/c.jpg", "a//b.jpg", "/lead.jpg", "new\nline"], []),
        ("*.jpg", ["a.jpg", ".jpg"], ["a/b.jpg", "a.jpgx", "a.JPG"]),
        ("**/*.jpg", ["a.jpg", "x/a.jpg", "x/y/a.jpg"], ["a.png", "a.jpg/x"]),
        ("cats/**", ["cats/a.jpg", "cats/x/a.jpg"], ["cats", "cats2/a.jpg", "x/cats/a.jpg"]),
        ("cats/", ["cats/a.jpg", "cats/x/a.jpg"], ["cats"]),
        ("./cats/*", ["cats/a.jpg"], ["cats/x/a.jpg"]),
        ("**/cats/**", ["cats/a.jpg", "x/cats/a.jpg", "x/y/cats/z/a.jpg"], ["xcats/a.jpg"]),
        ("a/**/z.jpg", ["a/z.jpg", "a/b/z.jpg", "a/b/c/z.jpg"], ["az.jpg", "b/a/z.jpg"]),
        ("img_?.jpg", ["img_1.jpg", "img_ü.jpg"], ["img_12.jpg", "img_/.jpg"]),
        ("[ab].jpg", ["a.jpg", "b.jpg"], ["c.jpg"]),
        ("[!ab].jpg", ["c.jpg"], ["a.jpg", "/.jpg"]),
        ("[a-c]x", ["bx"], ["dx"]),
        ("[]x]", ["]", "x"], ["y"]),
        ("a[b.jpg", ["a[b.jpg"], ["ab.jpg"]),
        ("*.{jpg,png}", ["a.jpg", "b.png"], ["a.jpeg", "a.{jpg,png}", "x/a.jpg"]),
        ("{train,val}/**/*.{jp{,e}g,png}", ["train/a.jpg", "val/x/a.jpeg", "train/a.png"], ["test/a.jpg", "train/a.jp"]),
        ("{a,b}{a,b}.jpg", ["aa.jpg", "ab.jpg", "ba.jpg", "bb.jpg"], ["a.jpg", "aab.jpg"]),
        ("a{1}.jpg", ["a{1}.jpg"], ["a1.jpg"]),
        ("a{1,2.jpg", ["a{1,2.jpg"], ["a1.jpg"]),
        ("a.b+c(d).jpg", ["a.b+c(d).jpg"], ["aXb+c(d).jpg"]),
        ("a**b", ["ab", "axxb"], ["a/b"]),
    ],
)
def test_globs_mean_what_is_written(glob: str, matching: list[str], other: list[str]) -> None:
    """`*` stays in a part, `**` spans parts, everything else stands for itself; the whole path must match."""
    pattern = glob_pattern((glob,))
    assert [path for path in matching if not pattern.fullmatch(path)] == []
    assert [path for path in other if pattern.fullmatch(path)] == []


@pytest.mark.parametrize("glob", ["", "/", "../x", "a/../b"])
def test_globs_stay_below_the_root(glob: str) -> None:
    """An empty glob, and one that leads out, are refused when the recipe is read."""
    with pytest.raises(ValueError, match=r"exclude: .* is no glob below the root"):
        Files("/data", exclude=(glob,))


def test_a_glob_that_stands_for_too_many() -> None:
    """Braces multiply: a glob beyond a thousand is refused, before it is spelt out."""
    with pytest.raises(ValueError, match=r"include: .* stands for more than 1000 globs"):
        Files("/data", include=("{a,b}{c,d}" * 20,))


def test_taking_nothing_is_refused() -> None:
    """An empty include is a slip."""
    with pytest.raises(ValueError, match="include"):
        Files("/data", include=())


@pytest.mark.parametrize(
    ("path", "suffix"),
    [
        ("a/notes.txt", ".txt"),
        ("a/NOTES.TXT", ".txt"),
        ("x.tar.gz", ".tar.gz"),
        ("x.json.gz", ".gz"),
        (".hidden/x.jpg", ".jpg"),
        ("a/_tmp/x.jpg", ".jpg"),
        ("a/.DS_Store", ""),
        ("_SUCCESS", ""),
        ("", "/"),
        ("a/b/", "/"),
        ("a/b_$folder$", "/"),
        ("photo.jpg", None),
        ("photo", None),
        ("a_b/c.d/photo.jpg.bak", None),
        ("Thumbs.db", ".db"),
        ("x.gif", None),
    ],
)
def test_ignored_is_decided_by_the_name(path: str, suffix: str | None) -> None:
    """Hidden parts, folder markers and sidecars are ignored and counted by suffix; whatever else is there is on offer."""
    assert ignored_as(path) == suffix


def test_suffixes_are_lower_case() -> None:
    """A name without a stem has no suffix."""
    assert [suffix_of(path) for path in ("A.JPG", "a.b/c", ".jpg", "a.", "x.TAR.GZ")] == [".jpg", "", "", ".", ".tar.gz"]


@pytest.mark.parametrize(
    ("name", "key"),
    [
        (b"plain/a b%20c.jpg", "plain/a b%20c.jpg"),
        ("ü/€.jpg".encode(), "ü/€.jpg"),
        (b"%C3%BC.jpg", "%C3%BC.jpg"),
        (b"bad-\xff.jpg", "bad-%FF.jpg"),
        (b"50%-\xff.jpg", "50%25-%FF.jpg"),
        (b"bad-%FF.jpg", "bad-%25FF.jpg"),
        (b"%25FF.jpg", "%2525FF.jpg"),
    ],
)
def test_keys_are_paths_with_foreign_bytes_escaped(name: bytes, key: str) -> None:
    """A key is the path; only bytes that are not UTF-8, and what could be mistaken for them, are escaped."""
    assert key_of(os.fsdecode(name)) == key


@given(
    st.lists(
        st.lists(st.sampled_from([b"%", b"2", b"5", b"F", b"C3", b"\xc3", b"\xff", b"\xbc", b"a", b"%25", b"%FF"]), max_size=6), min_size=2
    )
)
def test_keys_are_unique(names: list[list[bytes]]) -> None:
    """Two names never share a key, whatever bytes and percent signs they hold; and every key is UTF-8."""
    paths = {os.fsdecode(b"".join(parts)) for parts in names}
    keys = {key_of(path) for path in paths}
    assert len(keys) == len(paths)
    "".join(keys).encode("utf-8")


def test_all_that_lies_there_is_accounted_for(tmp_path: Path) -> None:
    """Listed, ignored by suffix, or left out by a glob: nothing else."""
    _write(tmp_path, "a.jpg", "b/c.PNG", "b/noext", "b/notes.txt", "_x/d.jpg", ".git/config", "e.tar.gz", "f.csv", "skip/g.jpg")
    ignored = Counter[str]()
    source = Files(str(tmp_path), exclude=("skip/**",))
    assert [item.key for item in source.items(ignored)] == ["a.jpg", "b/c.PNG", "b/noext"]
    assert ignored == {".txt": 1, ".jpg": 1, "": 1, ".tar.gz": 1, ".csv": 1}
    only = Files(str(tmp_path), include=("**/*.jpg", "b/*"), exclude=("skip/**",))
    assert [item.key for item in only.items(Counter())] == ["a.jpg", "b/c.PNG", "b/noext"]
    assert [item.key for item in Files(str(tmp_path), include=("b/*",)).items(Counter())] == ["b/c.PNG", "b/noext"]


def test_nothing_listed_is_an_error_that_says_why(tmp_path: Path) -> None:
    """Exit 3 names the uri and what was ignored or left out; a folder that is not there is told as such."""
    _write(tmp_path, "a.txt", "b.txt", "c.json", "d.jpg")
    with pytest.raises(StorageError, match=rf"{tmp_path}: lists no image; ignored: 2 .txt, 1 .json; 1 left out by source.include"):
        list(Files(str(tmp_path), include=("*.png",)).items(Counter()))
    (tmp_path / "empty").mkdir()
    with pytest.raises(StorageError, match="nothing lies there"):
        list(Files(str(tmp_path / "empty")).items(Counter()))
    with pytest.raises(StorageError, match="no such folder"):
        list(Files(str(tmp_path / "nope")).items(Counter()))


def test_a_closed_folder_stops_the_listing_unless_unwanted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures in a folder that may not be read would be lost silently; hidden and excluded folders may be closed."""
    _write(tmp_path, "a.jpg", "lost+found/b.jpg", ".Trash/c.jpg")
    listdir = os.listdir

    def refusing(path: str) -> list[str]:
        if path.endswith(("lost+found", ".Trash")):
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return listdir(path)

    monkeypatch.setattr(os, "listdir", refusing)
    with pytest.raises(StorageError, match=r"lost\+found: may not be read .* put lost\+found/\*\* into source.exclude"):
        list(Files(str(tmp_path)).items(Counter()))
    assert [item.key for item in Files(str(tmp_path), exclude=("lost+found/**",)).items(Counter())] == ["a.jpg"]


@pytest.mark.parametrize(
    ("path", "label", "split"),
    [
        ("cat/1.jpg", "cat", None),
        ("a/b/cat/1.jpg", "cat", None),
        ("train/cat/1.jpg", "cat", "train"),
        ("val/cat/1.jpg", "cat", "val"),
        ("valid/cat/1.jpg", "cat", "val"),
        ("validation/x/cat/1.jpg", "cat", "val"),
        ("test/1.jpg", None, "test"),
        ("cat/test/1.jpg", "test", None),
        ("1.jpg", None, None),
        ("train", None, None),
        ("Train/1.jpg", "Train", None),
    ],
)
def test_folders_name_class_and_split(path: str, label: str | None, split: str | None) -> None:
    """The class is the image's own folder; only a first folder is a split, and an image right in it has no class."""
    assert (class_folder(path), split_folder(path)) == (label, split)


def test_items_of_folders(tmp_path: Path) -> None:
    """Both layouts give key, uri, version and split; class_folders the label too."""
    _write(tmp_path, "train/cat/1.jpg", "root.jpg")
    by_class = list(ClassFolders(str(tmp_path)).items(Counter()))
    plain = list(Files(str(tmp_path)).items(Counter()))
    assert [(item.key, item.label, item.split) for item in by_class] == [("root.jpg", None, None), ("train/cat/1.jpg", "cat", "train")]
    assert [(item.key, item.label, item.split) for item in plain] == [("root.jpg", None, None), ("train/cat/1.jpg", None, "train")]
    assert [item.uri for item in plain] == [str(tmp_path / "root.jpg"), str(tmp_path / "train/cat/1.jpg")]
    assert [item.version for item in plain] == [item.version for item in by_class]


def test_a_dead_link_is_listed_to_be_missing(tmp_path: Path) -> None:
    """What is listed and not there ends as a rejection, not as silence."""
    _write(tmp_path, "a.jpg")
    (tmp_path / "dead.jpg").symlink_to(tmp_path / "gone.jpg")
    assert [(item.key, bool(item.version)) for item in Files(str(tmp_path)).items(Counter())] == [("a.jpg", True), ("dead.jpg", False)]
