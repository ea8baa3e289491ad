"""Every test computes as a worker does: one thread, no IPP, no update check of Albumentations. And a small collection to build from."""

from __future__ import annotations

import http.server
import io
import os
import secrets
import socket
import threading
from contextlib import ExitStack
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
# Ray 2.60 asks for a token, and a process keeps the first one it met: every Ray of a test run has this one, and the user's stays out of it.
os.environ["RAY_AUTH_MODE"] = "token"
os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)

import numpy as np  # the variable above is read when albumentations is imported
import pytest
import yaml
from hypothesis import settings
from PIL import Image

from ray_prep.dataset.dataset import read_shard
from ray_prep.dataset.reader import open as open_dataset
from ray_prep.plan import PlanFiles, carried_columns, freeze, units
from ray_prep.platform import made_with
from ray_prep.process import settle_process
from ray_prep.recipe import Recipe
from ray_prep.storage import open_store
from ray_prep.survey import survey
from ray_prep.work import Work

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ray_prep.messages import UnitRef

WHOLE = 40
BROKEN = 2
_CLASSES = ("cat", "dog", "owl")
# Modification times are part of what a build stores: the same ones make the same bytes.
_MODIFIED_NS = 1_700_000_000_000_000_000


def pytest_configure(config: pytest.Config) -> None:
    """Draw fewer examples where a run leaves out what is slow anyway: on every save; CI, which runs all, draws all."""
    settings.register_profile("on_every_save", max_examples=25)
    if "not slow" in config.option.markexpr:
        settings.load_profile("on_every_save")


@pytest.fixture(scope="session", autouse=True)
def _settled() -> None:
    settle_process()


def _picture(number: int) -> bytes:
    """Draw one small picture: JPEG of all orientations, some grey, progressive or CMYK; PNG and WebP."""
    rng = np.random.default_rng(number)
    height, width = (int(side) for side in rng.integers(40, 96, 2))
    rows, columns = np.mgrid[0:height, 0:width]
    pixels = np.stack([rows * 2 + number * 5, columns * 2, rows + columns], axis=2) % 200 + rng.integers(0, 56, (height, width, 3))
    image = Image.fromarray(pixels.astype(np.uint8))
    out = io.BytesIO()
    match number % 10:
        case 0:
            image.save(out, "PNG")
        case 1:
            image.save(out, "WEBP", quality=90)
        case 2:
            image.convert("L").save(out, "JPEG", quality=90)
        case 3:
            image.convert("CMYK" if number == 3 else "RGB").save(out, "JPEG", quality=90, progressive=number != 3)
        case _:
            exif = Image.Exif()
            exif[0x0112] = 1 + number % 8
            image.save(out, "JPEG", quality=90, exif=exif.tobytes())
    return out.getvalue()


@pytest.fixture(scope="session")
def pictures() -> dict[str, bytes]:
    """Forty small pictures in class folders, and two broken files: a JPEG that ends in the middle, and a web page."""
    suffixes = {0: "png", 1: "webp"}
    made = {f"{_CLASSES[number % 3]}/{number:02}.{suffixes.get(number % 10, 'jpg')}": _picture(number) for number in range(WHOLE)}
    made["cat/cut_short.jpg"] = _picture(14)[:900]
    made["dog/web_page.jpg"] = b"<!doctype html><html><body>Not found</body></html>"
    return made


def write_pictures(folder: Path, pictures: dict[str, bytes]) -> None:
    """Write files with the modification time that all of them share."""
    for name, data in pictures.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        os.utime(path, ns=(_MODIFIED_NS, _MODIFIED_NS))


@dataclass(frozen=True)
class Collection:
    """A folder of small pictures, and the recipes, targets and datasets made of it."""

    home: Path
    pictures: dict[str, bytes]

    @property
    def folder(self) -> Path:
        """Where the pictures are."""
        return self.home / "pictures"

    @property
    def target(self) -> Path:
        """Where a recipe of it builds to, unless told otherwise."""
        return self.home / "dataset"

    def data(self, target: str | Path | None = None, **sections: Any) -> dict[str, Any]:
        """Return a recipe as plain data: several small units in two splits, no copies; sections replace or add, None leaves one out."""
        output = {"uri": str(target or self.target), "shard_mb": 0.03, **sections.pop("output", {})}
        known: dict[str, Any] = {
            "seed": 7,
            "source": {"uri": str(self.folder), "layout": "class_folders"},
            "preprocess": [{"resize": {"short_side": 32}}],
            "finish": [{"center_crop": {"height": 24, "width": 24}}],
            "split": {"train": 0.8, "val": 0.2},
            "checks": {"max_rejected": 0.1},
            "output": output,
        }
        return {name: section for name, section in {**known, **sections}.items() if section is not None}

    def recipe(self, target: str | Path | None = None, **sections: Any) -> Recipe:
        """Return such a recipe, checked."""
        return Recipe.parse(self.data(target, **sections), folder=self.home)

    def file(self, target: str | Path | None = None, **sections: Any) -> Path:
        """Write such a recipe and return its file."""
        path = self.home / "recipe.yaml"
        path.write_text(yaml.safe_dump(self.data(target, **sections)), encoding="utf-8")
        return path

    def manifest(self, lines: list[str], name: str = "list.csv") -> dict[str, Any]:
        """Write a CSV beside the pictures and return the `source` section for it."""
        (self.home / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
        return {"uri": str(self.home / name), "layout": "manifest"}

    def write(self, name: str, data: bytes) -> None:
        """Add a file, or replace one."""
        write_pictures(self.folder, {name: data})

    def shards(self, target: str | Path | None = None) -> list[tuple[str, str]]:
        """Return (path, sha256 of the bytes on disk) of every live shard."""
        root = str(target or self.target)
        files = [(path.removeprefix(f"{root}/"), path) for path in open_dataset(root).files]
        found = []
        for name, path in files:
            with open(path, "rb") as file:
                found.append((name, sha256(file.read()).hexdigest()))
        return sorted(found)

    def rows(self, target: str | Path | None = None) -> dict[tuple[str, int], dict[str, Any]]:
        """Return every row of a dataset by (key, copy)."""
        root = str(target or self.target)
        found: dict[tuple[str, int], dict[str, Any]] = {}
        dataset = open_dataset(root)
        for shard in dataset.shards:
            for table in read_shard(dataset.store, shard, dataset.schema):
                for row in table.to_pylist():
                    place = (row["key"], row["copy"])
                    assert place not in found, f"{place} is there twice"
                    found[place] = {**row, "split": shard.split}
        return found

    def planned(self, target: str | Path | None = None, **sections: Any) -> tuple[Work, list[UnitRef]]:
        """Return what a build of such a recipe would hand to an engine: the work and its units, in the plan's order."""
        recipe = self.recipe(target, **sections)
        store = open_store(recipe.output.uri, recipe.source.storage_options)
        carried = carried_columns(recipe, None, None).schema
        with TemporaryDirectory() as folder:
            found = survey(recipe, (), carried, Path(folder), None)
            frozen = freeze(recipe, None, carried, found.labels)
            work = Work(recipe.data, recipe.folder, frozen, carried.serialize().to_pybytes(), "build", made_with())
            plan = PlanFiles(store, "build", carried)
            refs = [ref for unit in units(recipe, frozen, found, "make", sorted(found.counts)) for ref in plan.add("make", unit)]
            return work, refs + plan.flush()

    def reasons(self, target: str | Path | None = None) -> dict[str, str]:
        """Return the reason of every rejection by key."""
        return {row["key"]: row["reason"] for row in self.rejections(target)}

    def rejections(self, target: str | Path | None = None) -> list[dict[str, Any]]:
        """Return every rejection."""
        found: list[dict[str, Any]] = open_dataset(str(target or self.target)).rejections.to_pylist()
        return found


@pytest.fixture
def collection(tmp_path: Path, pictures: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> Collection:
    """The small pictures as files of a folder of the test's own; nothing of them needs to outlive a power failure."""
    monkeypatch.setattr(os, "fsync", lambda _descriptor: None)
    made = Collection(tmp_path, pictures)
    write_pictures(made.folder, pictures)
    return made


@pytest.fixture
def closed() -> Iterator[str]:
    """A place where nobody listens: its port is held, so that nobody else begins to."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{holder.getsockname()[1]}"


@pytest.fixture
def serve() -> Iterator[Callable[[Callable[..., http.server.BaseHTTPRequestHandler]], str]]:
    """Start web servers: given what handles a request, each returns its address, and ends with the test."""
    with ExitStack() as stack:

        def start(handler: Callable[..., http.server.BaseHTTPRequestHandler]) -> str:
            server = stack.enter_context(http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler))
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
            thread.start()
            stack.callback(thread.join)
            stack.callback(server.shutdown)
            return f"http://127.0.0.1:{server.server_port}"

        yield start
