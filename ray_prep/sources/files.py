"""The layout `files`: every image below a root, without labels."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from ray_prep.sample import Item
from ray_prep.sources.listing import NO_COLUMNS, check_globs, key_of, listed, split_folder
from ray_prep.storage import StorageOptions

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Collection, Iterator

    import pyarrow as pa


@dataclass(frozen=True)
class Files:
    """Every image below a root.

    Args:
        uri: The root.
        include: Globs below it, of which one must match.
        exclude: Globs below it, of which none may match.
        storage_options: How the root is reached.
    """

    layout: ClassVar[str] = "files"
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
            yield Item(key_of(path), store.uri_of(path), entry.version, None, split_folder(path))

    def carried_columns(self, published: Collection[str] = ()) -> pa.Schema:  # noqa: ARG002  there are none
        return NO_COLUMNS

    def split_column(self) -> None:
        """Return None: folders tell splits."""
        return
