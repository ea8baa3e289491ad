"""Every test computes as a worker does: one thread, no IPP, no update check of Albumentations."""

from __future__ import annotations

import os

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

import pytest  # noqa: E402  the variable is read when albumentations is imported

from ray_prep.process import settle_process  # noqa: E402  see above


@pytest.fixture(scope="session", autouse=True)
def _settled() -> None:
    settle_process()
