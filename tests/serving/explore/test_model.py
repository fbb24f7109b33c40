"""Tests of what is known of the model of the pages."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from partedvae.model_results import ModelDetails
from partedvae.serving.explore import model
from partedvae.serving.explore.model import AsyncLocalModel, ModelAccess
from partedvae.serving.local import load


class Failing(AsyncLocalModel):
    """A model whose second answer is an error that nobody foresaw."""

    asked = 0

    async def model_info(self) -> ModelDetails:
        self.asked += 1
        if self.asked == 2:
            raise RuntimeError("no such luck")
        return await super().model_info()


async def test_unforeseen_errors_do_not_end_the_questions(
    tiny_models: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The pages say what it was, and go on when the model answers again."""
    monkeypatch.setattr(model, "WATCH_SECONDS", 0.0)
    call = Failing(load(tiny_models / "tiny"))
    access = ModelAccess(call, "tiny")
    await access.start()
    try:
        async with asyncio.timeout(60):
            while not access.problem:
                await asyncio.sleep(0)
            assert access.problem == "tiny could not be asked: no such luck"
            while access.problem:
                await asyncio.sleep(0.01)
    finally:
        await access.stop()

    assert call.asked >= 3
    assert "asking tiny for its model failed; asking again" in caplog.text
