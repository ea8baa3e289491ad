"""The layout `class_folders`: every image below a root, labelled by its own folder."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, ClassVar

from ray_prep.sample import Item
from ray_prep.sources.listing import NO_COLUMNS, check_globs, key_of, listed, split_folder
from ray_prep.storage import StorageOptions

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Collection, Iterator

    import pyarrow as pa


@dataclass(frozen=True)
class ClassFolders:
    """Every image below a root, in folders named by class: `cat/1.jpg`, `train/cat/1.jpg`, `any/depth/cat/1.jpg`.

    Args:
        uri: The root.
        include: Globs below it, of which one must match.
        exclude: Globs below it, of which none may match.
        storage_options: How the root is reached.
    """

    layout: ClassVar[str] = "class_folders"
    is_container: ClassVar[bool] = False
    lists_files: ClassVar[bool] = True

    uri: str
    include: tuple[str, ...] = ("**",)
    exclude: tuple[str, ...] = ()
    storage_options: StorageOptions = field(default_factory=StorageOptions)

    def __post_init__(self) -> None:
        check_globs(self.include, self.exclude)

    def items(self, ignored: Counter[str]) -> Iterator[Item]:
        """Stream the images; the split is what a first folder `train`, `val`, `valid`, `validation` or `test` says."""
        for store, entry in listed(self.uri, self.storage_options, self.include, self.exclude, ignored):
            path = entry.path
            label, split = _told_by(path[: path.rfind("/") + 1])
            yield Item(key_of(path), store.uri_of(path), entry.version, label, split)

    def carried_columns(self, published: Collection[str] = ()) -> pa.Schema:  # noqa: ARG002  there are none
        return NO_COLUMNS

    def split_column(self) -> None:
        """Return None: folders tell splits."""
        return


def class_folder(path: str) -> str | None:
    """Return the class a path names: its own folder.

    None for a file at the root, and for one that lies directly in a first folder named for a split (`test/7.jpg`: a test set whose
    classes nobody told).
    """
    folders = path.split("/")[:-1]
    if not folders or (len(folders) == 1 and split_folder(path) is not None):
        return None
    return key_of(folders[-1]) or None


@lru_cache(maxsize=1024)
def _told_by(folder: str) -> tuple[str | None, str | None]:
    """Return class and split of every image in a folder (a path with a closing slash)."""
    return class_folder(folder), split_folder(folder)
