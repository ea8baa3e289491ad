"""What a commit would change, checked before it is made: the log accepts doubles, strangers, missing files and other columns silently."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from ray_prep.errors import BuildError, RecipeError, StorageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pyarrow as pa

    from ray_prep.dataset.shard import Shard
    from ray_prep.storage import Store

_THREADS = 16


def check_paths(uri: str, add: Sequence[Shard], gone: Sequence[str], live: Mapping[str, Shard]) -> None:
    """Refuse a path that would be added twice, and one to remove that is not there to be removed.

    Args:
        uri: The table, for the message.
        add: Shards to add.
        gone: Paths to remove.
        live: The table's shards by path.

    Raises:
        BuildError: The plan was wrong; nothing may be published of it.
    """
    seen: set[str] = set(live.keys() - set(gone))
    for shard in add:
        if shard.path in seen:
            why = "it is live and is not replaced" if shard.path in live else "two units made the same rows"
            msg = f"{uri}: {shard.path} would be added twice: {why}"
            raise BuildError(msg)
        seen.add(shard.path)
    for path in gone:
        if path not in live:
            msg = f"{uri}: {path} is to be replaced and is not live"
            raise BuildError(msg)


def check_sizes(store: Store, add: Sequence[Shard]) -> None:
    """Refuse a shard whose file is not there in its full size.

    Raises:
        StorageError: So it is; or storage is unreachable.
    """
    with ThreadPoolExecutor(_THREADS) as pool:
        for shard, size in zip(add, pool.map(store.size, (shard.path for shard in add)), strict=True):
            if size != shard.bytes:
                found = "is not there any more" if size is None else f"has {size} bytes instead of {shard.bytes}"
                msg = f"{store.uri_of(shard.path)} {found}; nothing was published, the same build again makes it anew"
                raise StorageError(msg)


def other_schema(uri: str, given: pa.Schema, table: pa.Schema) -> RecipeError:
    """Return the error that says how the columns of a build differ from the table's, which are frozen."""
    differences = []
    for name in dict.fromkeys([*table.names, *given.names]):
        old, new = (schema.field(name) if name in schema.names else None for schema in (table, given))
        if old is None or new is None:
            differences.append(f"{name} is {'new' if old is None else 'missing'}")
        elif not old.equals(new, check_metadata=True):
            differences.append(f"{name} would be {_described(new)} and is {_described(old)}")
    what = "; ".join(differences) or "their order would change"
    return RecipeError(f"{uri}: the columns are fixed since the first build: {what}; --rebuild replaces them")


def _described(field: pa.Field) -> str:
    metadata = [f"{name.decode()}={value.decode()}" for name, value in sorted((field.metadata or {}).items())]
    return " ".join([str(field.type), *metadata])
