"""Names and keys: limits, and that no two namespaces ever meet in one key."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval_draft.errors import InvalidInput
from retrieval_draft.store.keys import (
    NamespaceKey,
    RedisKey,
    checked_corpus,
    parse_redis_key,
    parse_tag,
    redis_key,
    tag,
)

tenants = st.from_regex(r"[a-z0-9-]{1,64}", fullmatch=True)
names = st.from_regex(r"[A-Za-z0-9._:/@-]{1,128}", fullmatch=True)
namespaces = st.builds(NamespaceKey, tenants, names)


def test_a_key_reads_as_written_in_the_design() -> None:
    key = NamespaceKey("local", "demo")
    assert redis_key(key, "journal") == "retrieval-draft:{5:local|4:demo}:journal"
    assert redis_key(None, "control") == "retrieval-draft:control"


@given(namespaces, st.sampled_from(["spec", "journal", "blocks"]), st.just("") | names)
def test_every_key_is_parsed_back(key: NamespaceKey, kind: str, name: str) -> None:
    text = redis_key(key, kind, name)  # type: ignore[arg-type]
    assert parse_redis_key(text) == RedisKey(key, kind, name)  # type: ignore[arg-type]
    assert text.count("{") == text.count("}") == 1, "the hash tag must be the whole name"


@given(namespaces, namespaces)
def test_namespaces_that_differ_have_tags_that_differ(a: NamespaceKey, b: NamespaceKey) -> None:
    assert (tag(a) == tag(b)) == (a == b)
    assert parse_tag(tag(a)) == a


def test_names_that_would_run_together_do_not() -> None:
    assert tag(NamespaceKey("a", "1:b")) != tag(NamespaceKey("a-1", "b"))


@pytest.mark.parametrize(
    ("tenant", "namespace", "field"),
    [
        ("", "demo", "tenant"),
        ("a" * 65, "demo", "tenant"),
        ("Local", "demo", "tenant"),
        ("local\n", "demo", "tenant"),
        ("local", "", "namespace"),
        ("local", "a" * 129, "namespace"),
        ("local", "a b", "namespace"),
        ("local", "{demo}", "namespace"),
        ("local", "demo\n", "namespace"),
    ],
)
def test_names_outside_their_limits_are_refused(tenant: str, namespace: str, field: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        NamespaceKey(tenant, namespace)
    assert refused.value.field == field
    assert refused.value.limit


def test_names_at_their_limits_are_taken() -> None:
    key = NamespaceKey("a" * 64, "b" * 128)
    assert parse_tag(tag(key)) == key
    assert checked_corpus("c" * 128)
    with pytest.raises(InvalidInput):
        checked_corpus("c" * 129)


def test_a_shared_kind_has_no_namespace() -> None:
    with pytest.raises(ValueError, match="control"):
        redis_key(NamespaceKey("local", "demo"), "control")
    with pytest.raises(ValueError, match="journal"):
        redis_key(None, "journal")


@given(
    st.text()
    | st.text(alphabet="retival-df:{}|0123456789localdemo").map("retrieval-draft:".__add__)
)
def test_other_keys_are_refused_and_never_misread(text: str) -> None:
    try:
        parsed = parse_redis_key(text)
    except InvalidInput:
        return
    assert redis_key(parsed.namespace, parsed.kind, parsed.name) == text
