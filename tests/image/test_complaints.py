"""libjpeg's warnings are heard by whoever decodes, and by nobody else."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest
from PIL import Image

from ray_prep.errors import DecodeError
from ray_prep.image.complaints import with_complaints
from ray_prep.image.decode import Decode, decode
from ray_prep.image.header import read_header

if TYPE_CHECKING:
    from pathlib import Path


def photo(height: int = 64, width: int = 96) -> bytes:
    """Return a JPEG of noise, which has many bytes of pixels."""
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(3).integers(0, 256, (height, width, 3), np.uint8)).save(buffer, "JPEG")
    return buffer.getvalue()


def broken_off(data: bytes) -> bytes:
    """Return the JPEG with a segment in the midst of its scan that no decoder can read: OpenCV takes it for a picture."""
    middle = len(data) // 2
    return data[:middle].rstrip(b"\xff") + b"\xff\xdd\x00\x07" + data[middle + 4 :]


def with_stray_bytes(data: bytes) -> bytes:
    """Return the JPEG with three bytes between two segments that belong to none."""
    at = data.index(b"\xff\xdb")
    return data[:at] + b"\x01\x02\x03" + data[at:]


def picture(data: bytes) -> np.ndarray:
    """Decode as a build does."""
    return decode(data, read_header(data), Decode())


def test_a_warning_is_heard_and_not_printed(capfd: pytest.CaptureFixture[str]) -> None:
    """The terminal shows nothing of it, and a next picture without fault has none."""
    stray = np.frombuffer(with_stray_bytes(photo()), np.uint8)
    made, warnings = with_complaints(lambda: cv2.imdecode(stray, cv2.IMREAD_COLOR))
    assert made is not None
    assert warnings.startswith(b"Corrupt JPEG data: 3 extraneous bytes")
    _, warnings = with_complaints(lambda: cv2.imdecode(np.frombuffer(photo(), np.uint8), cv2.IMREAD_COLOR))
    assert warnings == b""
    assert capfd.readouterr().err == ""


def test_what_others_write_is_passed_on(capfd: pytest.CaptureFixture[str]) -> None:
    """Lines that are none of libjpeg's reach the stream, and are no warning."""
    assert with_complaints(lambda: os.write(2, b"from elsewhere\nCorrupt JPEG data: bad Huffman code\n")) == (
        51,
        b"Corrupt JPEG data: bad Huffman code",
    )
    assert capfd.readouterr().err == "from elsewhere\n"


def test_the_stream_is_put_back_after_an_error(capfd: pytest.CaptureFixture[str]) -> None:
    """Whatever the decoder raises, the next line is seen again."""
    with pytest.raises(ZeroDivisionError):
        with_complaints(lambda: 1 // 0)
    os.write(2, b"seen")
    assert capfd.readouterr().err == "seen"


def test_threads_take_turns(capfd: pytest.CaptureFixture[str]) -> None:
    """Of many threads each hears its own picture's warnings, and the stream is whole at the end."""
    files = [photo(), with_stray_bytes(photo())] * 20
    heard: dict[int, bytes] = {}

    def listen(number: int) -> None:
        data = np.frombuffer(files[number], np.uint8)
        _, heard[number] = with_complaints(lambda: cv2.imdecode(data, cv2.IMREAD_COLOR))

    threads = [threading.Thread(target=listen, args=(number,)) for number in range(len(files))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [bool(heard[number]) for number in range(len(files))] == [False, True] * 20
    os.write(2, b"seen")
    assert capfd.readouterr().err == "seen"


@pytest.mark.slow
@pytest.mark.parametrize("closed", ["2", "0, 2", "0, 1, 2"])
def test_without_a_stream(closed: str, tmp_path: Path) -> None:
    """A process whose standard streams are closed hears the same."""
    (tmp_path / "stray.jpg").write_bytes(with_stray_bytes(photo()))
    code = f"""
import os
for number in ({closed},):
    os.close(number)
import cv2
import numpy as np
from ray_prep.image.complaints import with_complaints
data = np.fromfile("stray.jpg", np.uint8)
for _ in range(2):
    made, warnings = with_complaints(lambda: cv2.imdecode(data, cv2.IMREAD_COLOR))
with open("heard", "wb") as file:
    file.write(warnings)
"""
    environment = os.environ | {"PYTHONPATH": os.getcwd()}
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, env=environment)
    assert (tmp_path / "heard").read_bytes().startswith(b"Corrupt JPEG data: 3 extraneous bytes")


def test_a_scan_that_breaks_off_is_corrupt(capfd: pytest.CaptureFixture[str]) -> None:
    """OpenCV fills the rest with grey; Pillow's refusal counts."""
    data = broken_off(photo())
    with pytest.raises(DecodeError) as caught:
        picture(data)
    assert caught.value.reason == "corrupt"
    assert capfd.readouterr().err == ""


def test_stray_bytes_cost_nothing() -> None:
    """A picture that is whole but for bytes between its segments gives the same pixels."""
    np.testing.assert_array_equal(picture(with_stray_bytes(photo())), picture(photo()))
