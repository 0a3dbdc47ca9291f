"""Settings come from the environment or a mapping, and what is wrong is named."""

from dataclasses import fields
from pathlib import Path

import pytest

from retrieval_draft.adapters.settings import Settings, read_settings
from retrieval_draft.errors import InvalidInput
from retrieval_draft.step import Learning, VerifyCost


def test_nothing_said_is_the_default() -> None:
    assert read_settings(None, {"RETRIEVAL_DRAFT_TOKEN": "secret", "PATH": "/bin"}) == Settings()


def test_every_setting_has_a_variable() -> None:
    environment = {
        "RETRIEVAL_DRAFT_TRANSPORT": "in-process",
        "RETRIEVAL_DRAFT_SIDECAR": "",
        "RETRIEVAL_DRAFT_DATA": "/data",
        "RETRIEVAL_DRAFT_REDIS": "redis://127.0.0.1:6379",
        "RETRIEVAL_DRAFT_NAMESPACE": "code",
        "RETRIEVAL_DRAFT_TOKENIZER": "demo",
        "RETRIEVAL_DRAFT_METHOD": "suffix",
        "RETRIEVAL_DRAFT_NODES_MAX": "8",
        "RETRIEVAL_DRAFT_BATCH_MAX": "16",
        "RETRIEVAL_DRAFT_BATCH_NODES_MAX": "64",
        "RETRIEVAL_DRAFT_COST": "0:10,8:11.5",
        "RETRIEVAL_DRAFT_PROBABILITY_MIN": "0.05",
        "RETRIEVAL_DRAFT_FIRST_PROBABILITY_MIN": "0",
        "RETRIEVAL_DRAFT_STEP_MS_MAX": "1.5",
        "RETRIEVAL_DRAFT_IDLE_SECONDS_MAX": "60",
        "RETRIEVAL_DRAFT_NAMESPACES_MAX": "4",
        "RETRIEVAL_DRAFT_LEARN": "all",
        "RETRIEVAL_DRAFT_OBSERVE_ONLY": "1",
        "RETRIEVAL_DRAFT_HYBRID": "yes",
        "RETRIEVAL_DRAFT_OFF": "true",
    }
    names = {f"RETRIEVAL_DRAFT_{field.name.upper()}" for field in fields(Settings)}
    assert names == set(environment)
    found = read_settings(None, environment)
    assert (found.transport, found.data, found.redis) == (
        "in-process",
        Path("/data"),
        "redis://127.0.0.1:6379",
    )
    assert (found.nodes_max, found.batch_max, found.batch_nodes_max) == (8, 16, 64)
    assert (found.step_ms_max, found.idle_seconds_max, found.namespaces_max) == (1.5, 60.0, 4)
    assert (found.probability_min, found.first_probability_min) == (0.05, 0.0)
    assert found.learn == Learning.PROMPT_AND_OUTPUT
    assert found.observe_only
    assert found.hybrid
    assert found.off
    assert isinstance(found.cost, VerifyCost)
    assert found.cost.nodes.tolist() == [0, 8]
    assert found.cost.milliseconds.tolist() == [10.0, 11.5]


def test_the_mapping_wins() -> None:
    found = read_settings({"nodes_max": 4}, {"RETRIEVAL_DRAFT_NODES_MAX": "8"})
    assert found.nodes_max == 4


@pytest.mark.parametrize(
    ("mapping", "field"),
    [
        ({"transport": "pigeon"}, "transport"),
        ({"nodes_max": 1025}, "nodes_max"),
        ({"nodes_max": True}, "nodes_max"),
        ({"nodes_max": None}, "nodes_max"),
        ({"nodes_max": "eight"}, "nodes_max"),
        ({"step_ms_max": 0}, "step_ms_max"),
        ({"step_ms_max": "nan"}, "step_ms_max"),
        ({"probability_min": 1.5}, "probability_min"),
        ({"probability_min": "nan"}, "probability_min"),
        ({"first_probability_min": -0.1}, "first_probability_min"),
        ({"cost": "8:1"}, "cost"),
        ({"cost": "0:1,0:2"}, "cost"),
        ({"cost": "0:-1"}, "cost"),
        ({"cost": "cheap"}, "cost"),
        ({"learn": "everything"}, "learn"),
        ({"learn": []}, "learn"),
        ({"observe_only": "perhaps"}, "observe_only"),
        ({"sidecar": 5}, "sidecar"),
        ({"step_ms": 5}, "setting"),
        ({"transport": "in-process", "sidecar": "127.0.0.1:1"}, "sidecar"),
        ({"redis": "redis://127.0.0.1"}, "redis"),
    ],
)
def test_what_is_wrong_is_named(mapping: dict[str, object], field: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        read_settings(mapping, {})
    assert caught.value.field == field


def test_a_wrong_variable_is_named_as_it_was_given() -> None:
    with pytest.raises(InvalidInput, match="RETRIEVAL_DRAFT_BATCH_MAX is 'many'"):
        read_settings(None, {"RETRIEVAL_DRAFT_BATCH_MAX": "many"})
