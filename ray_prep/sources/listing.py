"""Files below a root: which of them are on offer, and what they are called."""

from __future__ import annotations

import os
import re
from functools import lru_cache
from typing import TYPE_CHECKING, ClassVar, Protocol
from urllib.parse import unquote_to_bytes

import pyarrow as pa

from ray_prep.errors import StorageError
from ray_prep.storage import open_store

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable, Collection, Iterator, Sequence

    from ray_prep.sample import Item
    from ray_prep.storage import Entry, StorageOptions, Store


class Source(Protocol):
    """Items on offer. Implementations: frozen dataclasses whose fields are the keys of the recipe's `source:` for that layout."""

    layout: ClassVar[str]
    # Whether an item stands for a file that holds many images (see `sources.container.ContainerSource`), instead of for one image.
    is_container: ClassVar[bool]
    # Whether what is listed was seen there, instead of being named by a table.
    lists_files: ClassVar[bool]

    @property
    def uri(self) -> str:
        """The root, or the manifest."""
        ...

    @property
    def storage_options(self) -> StorageOptions:
        """How it is reached, and the images too."""
        ...

    def items(self, ignored: Counter[str]) -> Iterator[Item]:
        """Stream what is on offer, reading no image; in a stable order.

        Args:
            ignored: Counts, by suffix, what lies there and is not on offer; complete when the stream ends.

        Raises:
            StorageError: The root is not there, may not be read, or lists nothing.
            RecipeError: What is listed does not fit the recipe.
        """
        ...

    def carried_columns(self, published: Collection[str] = ()) -> pa.Schema:
        """Return the columns on offer beside label and key, with the types they have in a table; reads no image.

        The column that tells splits is among them, as text: where the recipe splits otherwise, it is carried like any other.

        Args:
            published: Columns that the dataset has. The recipe may give types to those although the source has lost them.
        """
        ...

    def split_column(self) -> str | None:
        """Return the name of the column that tells splits; None where there is none, though folders may tell them."""
        ...


NO_COLUMNS: pa.Schema = pa.schema([])

# What lies beside images and never is one; whatever else is listed is judged by its bytes.
_SIDECARS_TEXT = """
.txt .json .jsonl .xml .csv .tsv .yaml .yml .md .html .db .ini .log .npy .npz .parquet .tar .gz .tgz .zip .names .cls .py .ipynb
"""
SIDECARS = frozenset(_SIDECARS_TEXT.split())
SPLIT_FOLDERS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}

_HIDDEN = re.compile(r"(?:^|/)[._]")
# How Hadoop marks a folder in an object store.
_FOLDER_MARKER = "_$folder$"
_ESCAPED = re.compile(r"(?:%(?:25|[89A-F][0-9A-F]))+")
_BRACES = re.compile(r"\{([^{}]*,[^{}]*)\}")
_MOST_GLOBS = 1000
_SURROGATE = re.compile(r"[\udc80-\udcff]")


def ignored_as(path: str) -> str | None:
    """Return the suffix a path is counted under where it is ignored; None where it is on offer.

    Ignored are paths with a part that begins with `.` or `_`, folder markers (counted under `/`), and sidecars.
    """
    if not path or path.endswith(("/", _FOLDER_MARKER)):
        return "/"
    suffix = suffix_of(path)
    return suffix if suffix[suffix.rfind(".") :] in SIDECARS or is_hidden(path) else None


def why_left_out(path: str, include: tuple[str, ...], exclude: tuple[str, ...]) -> str | None:
    """Return why a file below the root of `files` or `class_folders` is not on offer, by its name; None where it is.

    Args:
        path: Below the root.
        include: Globs of which one must match.
        exclude: Globs of which none may match.
    """
    if is_hidden(path):
        return "a part of its path begins with . or _, and such are ignored"
    suffix = ignored_as(path)
    if suffix is not None:
        return f"{suffix} is ignored, as no image has such a name"
    if not glob_pattern(include).fullmatch(path):
        return "source.include does not match it"
    return "source.exclude matches it" if glob_pattern(exclude).fullmatch(path) else None


def is_hidden(path: str) -> bool:
    """Return whether a part of a path begins with `.` or `_`."""
    return _HIDDEN.search(path) is not None


def suffix_of(path: str) -> str:
    """Return the suffix in lower case, with its dot: `.jpg`, `.tar.gz`; empty where the name has none."""
    name = path[path.rfind("/") + 1 :]
    stem, dot, suffix = name.rpartition(".")
    if not dot or not stem:
        return ""
    compound = ".tar" if stem.lower().endswith(".tar") else ""
    return f"{compound}.{suffix.lower()}"


def key_of(path: str) -> str:
    """Return the key of a path below the root: the path itself; bytes of a name that are not UTF-8 become %XX.

    Two paths never have one key: in a path that holds such bytes `%` becomes `%25`, and so it does in one that could be taken
    for the key of such a path (a file really called `a%FF.jpg`).
    """
    if path.isascii() and "%" not in path:
        return path
    return _escaped(path) if _is_taken(path) else path


def split_folder(path: str) -> str | None:
    """Return the split that the first folder of a path names (`valid/cat/1.jpg` -> `val`); None where it names none."""
    first, slash, _ = path.partition("/")
    return SPLIT_FOLDERS.get(first) if slash else None


@lru_cache(maxsize=64)
def glob_pattern(globs: tuple[str, ...]) -> re.Pattern[str]:
    """Compile globs to one pattern that must match a whole path below the root.

    `*` and `?` stay within a part of the path, `[ab]` and `[!ab]` stand for one character, `**` as a whole part for any number of
    parts, none included, and at the end for everything below. `*.jpg` therefore is a file at the root, `**/*.jpg` one anywhere.
    `{jpg,png}` stands for any of its parts, as a shell has it; braces without a comma stand for themselves. Case matters. A closing
    slash means the same as `/**`.

    Raises:
        ValueError: A glob is empty, leads out of the root, or stands for too many.
    """
    spelt = [one for glob in globs for one in _spelt_out(glob)]
    return re.compile("|".join(f"(?:{_translated(glob)})" for glob in spelt) if spelt else r"(?!)", re.DOTALL)


def listed(
    uri: str,
    options: StorageOptions,
    include: tuple[str, ...],
    exclude: tuple[str, ...],
    ignored: Counter[str],
    judge: Callable[[str], str | None] = ignored_as,
    what: str = "image",
) -> Iterator[tuple[Store, Entry]]:
    """Stream the files on offer below a root.

    Args:
        uri: The root.
        options: How it is reached.
        include: Globs of which one must match.
        exclude: Globs of which none may match.
        ignored: Counts what is ignored, by suffix.
        judge: Path -> the suffix it is ignored under, or None where it is on offer.
        what: What is on offer, for the message that there is none.

    Raises:
        StorageError: The root is not there, a folder in it may not be read, or nothing is on offer.
    """
    store = open_store(uri, options)
    wanted = None if "**" in include else glob_pattern(include)
    unwanted = glob_pattern(exclude) if exclude else None
    count = left_out = 0

    def unreadable(path: str) -> None:
        # `lost+found`, `.Trash`: a folder nobody wants may be closed, one whose pictures would be missing may not.
        if _HIDDEN.search(path) or (unwanted is not None and (unwanted.fullmatch(path) or unwanted.fullmatch(path + "/_"))):
            return
        msg = f"{store.uri_of(path)}: may not be read by this user; allow it, or put {path}/** into source.exclude"
        raise StorageError(msg)

    store.check()
    for entry in store.list(on_unreadable=unreadable):
        suffix = judge(entry.path)
        if suffix is not None:
            ignored[suffix] += 1
        elif (wanted is not None and not wanted.fullmatch(entry.path)) or (unwanted is not None and unwanted.fullmatch(entry.path)):
            left_out += 1
        else:
            count += 1
            yield store, entry
    if not count:
        raise StorageError(_nothing(store.uri, what, ignored, left_out))


def _nothing(uri: str, what: str, ignored: Counter[str], left_out: int) -> str:
    found = [f"{number} {suffix or 'without suffix'}" for suffix, number in sorted(ignored.items(), key=lambda pair: (-pair[1], pair[0]))]
    reasons = []
    if found:
        reasons.append(f"ignored: {', '.join(found[:8])}{', …' if len(found) > 8 else ''}")
    if left_out:
        reasons.append(f"{left_out} left out by source.include and source.exclude")
    return f"{uri}: lists no {what}; {'; '.join(reasons) or 'nothing lies there'}"


def _spelt_out(glob: str) -> list[str]:
    """Return the globs that one with braces stands for, the innermost braces spelt out first."""
    waiting, done = [glob], dict[str, None]()
    while waiting:
        one = waiting.pop()
        match = _BRACES.search(one)
        if match is None:
            done[one] = None
        else:
            waiting += [one[: match.start()] + option + one[match.end() :] for option in match[1].split(",")]
        if len(waiting) + len(done) > _MOST_GLOBS:
            msg = f"{glob!r} stands for more than {_MOST_GLOBS} globs; write it with * or ?"
            raise ValueError(msg)
    return list(done)


def _translated(glob: str) -> str:
    parts = re.sub(r"^(\./|/)+", "", glob).split("/")
    if parts and parts[-1] == "":
        parts[-1] = "**"
    if not glob.strip("/") or ".." in parts:
        msg = f"{glob!r} is no glob below the root; write for example '**/*.jpg' or 'cats/**'"
        raise ValueError(msg)
    pattern = ""
    for index, part in enumerate(parts):
        is_last = index == len(parts) - 1
        if part == "**":
            pattern += ".*" if is_last else "(?:.*/)?"
        else:
            pattern += _translated_part(part) + ("" if is_last else "/")
    return pattern


def _translated_part(part: str) -> str:
    pattern, position = "", 0
    while position < len(part):
        character = part[position]
        position += 1
        close = part.find("]", position + (2 if part[position : position + 1] == "!" else 1)) if character == "[" else -1
        if close >= 0:
            inside = part[position:close].replace("\\", "\\\\").replace("[", "\\[").replace("^", "\\^")
            pattern += f"(?!/)[{'^' + inside[1:] if inside.startswith('!') else inside}]"
            position = close + 1
        elif character == "*":
            pattern += "[^/]*"
        elif character == "?":
            pattern += "[^/]"
        else:
            pattern += re.escape(character)
    return pattern


def _is_utf8(path: str) -> bool:
    try:
        path.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _escaped(path: str) -> str:
    return _SURROGATE.sub(lambda match: f"%{ord(match[0]) - 0xDC00:02X}", path.replace("%", "%25"))


def _unescaped(path: str) -> str:
    return _ESCAPED.sub(lambda match: os.fsdecode(unquote_to_bytes(match[0])), path)


def _is_taken(path: str) -> bool:
    """Return whether a path is to be escaped: it is not UTF-8, or it is what escaping another such path gives."""
    while _is_utf8(path):
        inner = _unescaped(path)
        if inner == path or _escaped(inner) != path:
            return False
        path = inner
    return True


def check_globs(include: Sequence[str], exclude: Sequence[str]) -> None:
    """Refuse globs that cannot be compiled.

    Raises:
        ValueError: As `glob_pattern`, naming the key.
    """
    for name, globs in (("include", include), ("exclude", exclude)):
        for glob in globs:
            try:
                glob_pattern((glob,))
            except (ValueError, re.error) as error:
                msg = f"{name}: {error}"
                raise ValueError(msg) from error
    if not include:
        msg = "include: an empty list takes nothing; leave it out to take everything"
        raise ValueError(msg)
