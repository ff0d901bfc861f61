"""Model files of earlier versions can be read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from eventide.config import Config
from eventide.engine.model_file import stored_config
from eventide.types import EventideError


def stored(**dataset: Any) -> dict[str, Any]:
    content = Config().model_dump(mode="json")
    return {**content, "dataset": {**content["dataset"], **dataset}}


def test_a_key_that_was_never_used_is_forgotten() -> None:
    assert stored_config(stored(shards=None), Path("m.safetensors")) == Config().resolve()


@pytest.mark.parametrize("extra", [{"shards": "s3://somewhere"}, {"shard": None}])
def test_other_unknown_keys_are_refused(extra: dict[str, Any]) -> None:
    with pytest.raises(EventideError, match=r"m\.safetensors does not fit this version of Eventide: dataset\.shard"):
        stored_config(stored(**extra), Path("m.safetensors"))
