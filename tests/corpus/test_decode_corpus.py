"""Every real file ends as its row of the manifest says; mutants of them end as a picture or a rejection.

Decoding runs in a child process, this very file: whatever kills it is one item's fault, and the next item gets a new child.
"""

from __future__ import annotations

import io
import json
import os
import random
import resource
import select
import subprocess
import sys
import time
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

REPOSITORY = Path(__file__).parents[2]
CORPORA = REPOSITORY.parent / "shared" / "corpora"
LONGEST_ITEM_S = 20.0
LARGEST_CHILD_KB = 1_500_000
MUTANTS = 5000

pytestmark = [pytest.mark.corpus, pytest.mark.skipif(not CORPORA.is_dir(), reason="the corpora are not here"), pytest.mark.timeout(240)]

# Files that the two decoders of the manifest judged differently, and what becomes of each: its reason, or None for a picture.
UNDECIDED: dict[str, str | None] = {
    "5315c35bbcc28d8eee419028ac9f38e0.jpg": "corrupt",
    "9f32afa77e38ea6f526fa8f850ebfa0e74cb1346": None,
    "948633673a35fcaf8e7642f084e3e661327304e9.crash": None,
    "a7326ba8f3f4559991126474dd30083d.jpg": "truncated",
    "e4386cf8dd6ca3abdbdf2e80981c3c7b41f78396": "truncated",
    "png_decompression_dos.png": "too_large",
    "m8-42c19f8e79e582bef107f372f18a074b.tif": "corrupt",
}

# What is known of these files from their names or their bytes, beyond "reject".
REASONS: dict[str, str] = {
    "Bad_reallybig.bad_bmp": "too_large",
    "decompression_bomb.gif": "too_large",
    "decompression_bomb.ico": "too_large",
    "hopper.heif": "unsupported",
    "testorig12.jpg": "unsupported",
    "beach.jpg": "unsupported",
    "rgb16-880.bmp": "unsupported",
    "incomplete_image.jpg": "truncated",
    "truncated_jpeg.jpg": "truncated",
    "truncated_image.png": "truncated",
    "truncated_end_chunk.png": "truncated",
    "broken_data_stream.png": "corrupt",
    "broken.png": "corrupt",
    "xd3n2c08.png": "corrupt",
    "crash-0a3f124cbcdf7694774ca70e4b4b9afc6324a5a4.fuzzed": "not_an_image",
}


def judge(data: bytes, max_pixels: int = 100_000_000) -> dict[str, Any]:
    """Return what becomes of one file: runs in the child."""
    import numpy as np
    from PIL import Image

    from ray_prep.errors import SampleError
    from ray_prep.image.decode import Decode, decode
    from ray_prep.image.header import read_header

    start = time.monotonic()
    try:
        header = read_header(data)
        image = decode(data, header, Decode(max_pixels=max_pixels))
    except SampleError as error:
        found: dict[str, Any] = {"end": "reject", "reason": error.reason, "message": error.message}
    else:
        grid = np.asarray(Image.fromarray(image).resize((4, 4), Image.Resampling.BOX)).ravel()
        found = {"end": "ok", "shape": image.shape, "size": header.oriented_size, "dtype": str(image.dtype), "grid": grid.tolist()}
        with Image.open(io.BytesIO(data)) as other:
            found["transparent"] = other.has_transparency_data
        found |= {"format": header.format, "frames": header.frames, "orientation": header.orientation}
    found["seconds"] = time.monotonic() - start
    found["peak_kb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return found


def serve() -> None:
    """Judge what standard input names, a line of JSON each: a file, or a mutant by number. Runs in the child."""
    import cv2

    cv2.setNumThreads(1)
    seeds: list[bytes] = []
    for line in sys.stdin:
        job = json.loads(line)
        if "file" in job:
            found = judge((CORPORA / job["file"]).read_bytes())
        else:
            seeds = seeds or [(CORPORA / name).read_bytes() for name in job["seeds"]]
            found = judge(mutant(job["mutant"], seeds), max_pixels=20_000_000)
        print(json.dumps(found), flush=True)  # noqa: T201 - this is how the child answers


class Child:
    """A process that judges one job at a time, and is replaced when it dies or is late."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def ask(self, job: dict[str, Any]) -> dict[str, Any]:
        """Return the child's answer, or that it crashed or was late."""
        if self._process is None:
            environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
            self._process = subprocess.Popen(
                [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment
            )
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(job).encode() + b"\n")
        self._process.stdin.flush()
        ready, _, _ = select.select([self._process.stdout], [], [], LONGEST_ITEM_S + 10)  # 10: a child's first imports
        answer = self._process.stdout.readline() if ready else b""
        if not answer:
            self.close()
            return {"end": "crashed" if ready else "late"}
        found: dict[str, Any] = json.loads(answer)
        return found

    def close(self) -> None:
        """End the process, whatever it does."""
        if self._process is not None:
            self._process.kill()
            assert self._process.stdin
            assert self._process.stdout
            self._process.stdin.close()
            self._process.stdout.close()
            self._process.wait()
            self._process = None


@pytest.fixture
def child() -> Iterator[Child]:
    """Return a child that ends with the test."""
    one = Child()
    yield one
    one.close()


def rows() -> list[dict[str, Any]]:
    """Return the manifest."""
    if not CORPORA.is_dir():
        return []
    return [json.loads(line) for line in (CORPORA / "manifest.jsonl").read_text(encoding="utf-8").splitlines()]


KINDS = sorted({row["kind"] for row in rows()})


def difference(row: dict[str, Any], found: dict[str, Any]) -> str | None:
    """Return in which way a file ended otherwise than its row says; None where it did as it should."""
    if found["end"] in ("crashed", "late"):
        return str(found["end"])
    if found["seconds"] > LONGEST_ITEM_S or found["peak_kb"] > LARGEST_CHILD_KB:
        return f"{found['seconds']:.1f} s, {found['peak_kb']} kB"
    if found["end"] != row["expect"]:
        return f"{found['end']} instead of {row['expect']}: {found.get('message')}" if row["firm"] else None
    if found["end"] == "reject":
        return None if found["message"] else "no message"
    if found["shape"] != [row["height"], row["width"], 3] or found["size"] != [row["height"], row["width"]] or found["dtype"] != "uint8":
        return f"{found['shape']} instead of {row['height']}x{row['width']}"
    facts = (found["format"], found["frames"], found["orientation"])
    if facts != (row["format"].lower(), row["n_frames"] or 1, row["orientation"] or 1):
        return f"format, frames, orientation: {facts}"
    if row.get("grid4") and not row["disagree"] and not found["transparent"]:
        apart = sum(abs(a - b) for a, b in zip(row["grid4"], found["grid"], strict=True)) / 48
        if apart > 4:
            return f"the 4x4 grid is {apart:.1f} levels off"
    return None


@pytest.mark.parametrize("kind", KINDS)
def test_every_file_ends_as_its_row_says(kind: str, child: Child) -> None:
    """Accepted or rejected, size, frames, orientation and colours; within 20 s and 1.5 GB; a folder within 120 s."""
    start = time.monotonic()
    wrong = {}
    for row in rows():
        if row["kind"] != kind:
            continue
        found = child.ask({"file": row["file"]})
        name = row["file"].split("__")[-1]
        problem = difference(row, found)
        if name in UNDECIDED and found.get("reason") != UNDECIDED[name]:
            problem = f"{found.get('reason')} instead of {UNDECIDED[name]}"
        if name in REASONS and found.get("reason") != REASONS[name]:
            problem = f"{found.get('reason')} instead of {REASONS[name]}: {found.get('message')}"
        if problem:
            wrong[row["file"]] = problem
    assert not wrong
    assert time.monotonic() - start < 120


def mutant(number: int, seeds: list[bytes]) -> bytes:
    """Return a damaged file: bits flipped, its end cut off, a piece of another put in, its header exaggerated, or a piece cut out."""
    rng = random.Random(number)
    changed = bytearray(rng.choice(seeds))
    kind = number % 5
    at = rng.randrange(len(changed))
    if kind == 0:
        for _ in range(rng.choice((1, 2, 8, 40))):
            changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    elif kind == 1:
        del changed[at:]
    elif kind == 2:
        other = rng.choice(seeds)
        start = rng.randrange(len(other))
        changed[at : at + rng.randrange(1, 400)] = other[start : start + rng.randrange(1, 400)]
    elif kind == 3:
        for _ in range(rng.choice((1, 2, 3))):
            place = rng.randrange(min(len(changed), 200))
            value = rng.choice((b"\xff", b"\xff\xff", b"\xff\xff\xff\x7f", b"\x7f\xff\xff\xff", b"\0\0\0\0", b"\x80\0", b"\x01\0"))
            changed[place : place + len(value)] = value
        if changed[:4] == b"\x89PNG":  # so that not every one ends at its checksum
            changed[29:33] = zlib.crc32(changed[12:29]).to_bytes(4, "big")
    else:
        del changed[at : at + rng.randrange(1, 64)]
    return bytes(changed)


def test_mutants_end_as_a_picture_or_a_rejection(child: Child) -> None:
    """Thousands of damaged files of every format: none kills the process, none takes long, none passes its limits."""
    start = time.monotonic()
    kinds = {"hostile", "odd-modes", "exif-orientation"}
    seeds = [row["file"] for row in rows() if row["kind"] in kinds and row["bytes"] < 60_000]
    ends: dict[str, int] = {}
    wrong = {}
    for number in range(MUTANTS):
        found = child.ask({"mutant": number, "seeds": seeds if not number or wrong else []})
        ends[found.get("reason", found["end"])] = ends.get(found.get("reason", found["end"]), 0) + 1
        if found["end"] in ("crashed", "late") or found["seconds"] > LONGEST_ITEM_S or found["peak_kb"] > LARGEST_CHILD_KB:
            wrong[number] = found
    assert not wrong
    assert {"ok", "truncated", "corrupt", "too_large", "unsupported", "not_an_image"} <= ends.keys()
    assert ends["ok"] > MUTANTS // 20
    assert time.monotonic() - start < 90


if __name__ == "__main__":
    serve()
