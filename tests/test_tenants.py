"""The tenants file: what it may say, and what it never holds."""

import stat
from dataclasses import replace
from pathlib import Path

import pytest

from retrieval_draft.errors import DraftError, InvalidInput, NotFound, PermissionDenied
from retrieval_draft.tenants import (
    TOKEN_CHARACTERS_MIN,
    TOKENS_MAX,
    Tenant,
    Tenants,
    hashed_token,
    read_tenants,
    token_id,
    with_certificates,
    with_token,
    without_tenant,
    without_token,
    write_tenants,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "tenants.toml"


def test_what_is_written_is_read_and_the_file_is_this_users_and_holds_no_token(path: Path) -> None:
    tenants, first = with_token(Tenants(unix_sockets="acme"), "acme")
    tenants, second = with_token(tenants, "acme")
    tenants = with_certificates(tenants, "bolt", ("spiffe://prod/b", 'CN "quoted" ünï\\'))
    write_tenants(path, tenants)
    assert read_tenants(path) == tenants
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert first not in path.read_text()
    assert first != second
    assert len(first) >= 43, "256 bits"
    found = read_tenants(path)
    assert [found.of_token(token) for token in (first, second)] == ["acme", "acme"]
    assert found.of_certificate("spiffe://prod/b") == "bolt"


def test_only_the_whole_token_is_the_tenants(path: Path) -> None:
    tenants, token = with_token(Tenants(), "acme")
    for wrong in ("", token[:-1], token + "x", token.swapcase(), hashed_token(token), "a" * 300):
        assert tenants.of_token(wrong) is None


def test_a_token_too_short_for_128_bits_matches_nothing_even_if_its_hash_is_there() -> None:
    short, long = "x" * (TOKEN_CHARACTERS_MIN - 1), "x" * TOKEN_CHARACTERS_MIN
    tenants = Tenants({"acme": Tenant("acme", (hashed_token(short), hashed_token(long)))})
    assert tenants.of_token(short) is None
    assert tenants.of_token(long) == "acme"


def test_hashes_that_begin_alike_are_told_apart() -> None:
    tenants, token = with_token(Tenants(), "acme")
    hashed = tenants.by_name["acme"].tokens[0]
    alike = hashed[:-1] + ("0" if hashed[-1] != "0" else "1")
    both = replace(tenants, by_name={**tenants.by_name, "bolt": Tenant("bolt", (alike,))})
    assert both.of_token(token) == "acme"
    assert Tenants({"bolt": Tenant("bolt", (alike,))}).of_token(token) is None


def test_tokens_and_tenants_are_removed_by_name() -> None:
    tenants, first = with_token(Tenants(), "acme")
    tenants, second = with_token(tenants, "acme")
    fewer = without_token(tenants, "acme", token_id(hashed_token(first)))
    assert (fewer.of_token(first), fewer.of_token(second)) == (None, "acme")
    assert without_tenant(fewer, "acme") == Tenants()
    with pytest.raises(NotFound):
        without_tenant(tenants, "bolt")
    for name, token in (("bolt", "x"), ("acme", "00000000")):
        with pytest.raises(NotFound):
            without_token(tenants, name, token)


HASH = hashed_token("x" * 40)
BAD: dict[str, tuple[str | bytes, str]] = {
    "no TOML": ("tenants = [", "tenants file"),
    "no UTF-8": (b"\xff\xfe", "tenants file"),
    "an unknown field": ("unix_socket = 'a'", "unix_socket"),
    "an unknown field of a tenant": ("[tenants.a]\ntoken = 'x'", "token"),
    "a wrong kind": ("[tenants.a]\ntokens = 'x'", "tokens"),
    "a bad name": ("[tenants.'A b']", "tenant is 'A b'"),
    "a bad tenant of Unix sockets": ("unix_sockets = 'A'", "tenant is 'A'"),
    "a token in the clear": (f"[tenants.a]\ntokens = ['{'secret' * 9}']", "sha256:"),
    "half a hash": (f"[tenants.a]\ntokens = ['{HASH[:-1]}']", "64 hexadecimal digits"),
    "an empty certificate": ("[tenants.a]\ncertificates = ['']", "printable"),
    "a token of two": (f"[tenants.a]\ntokens=['{HASH}']\n[tenants.b]\ntokens=['{HASH}']", "a and b"),
    "a certificate of two": (
        "[tenants.a]\ncertificates=['x']\n[tenants.b]\ncertificates=['x']", "certificate x",
    ),
    "too many tokens": (
        "[tenants.a]\ntokens = ["
        + ",".join(f"'{hashed_token(str(i))}'" for i in range(TOKENS_MAX + 1)) + "]",
        f"tenants.a.tokens is {TOKENS_MAX + 1}, the limit is {TOKENS_MAX}",
    ),
    "too many tenants": ("".join(f"[tenants.t{i}]\n" for i in range(1025)), "1025, the limit is 1024"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_refused_with_its_reason_and_without_its_secrets(
    path: Path, name: str
) -> None:
    content, said = BAD[name]
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    path.chmod(0o600)
    with pytest.raises(InvalidInput, match=said) as caught:
        read_tenants(path)
    assert "secret" not in str(caught.value)


def test_a_file_that_is_missing_or_that_others_may_write_is_refused(path: Path) -> None:
    with pytest.raises(InvalidInput, match="No such file"):
        read_tenants(path)
    write_tenants(path, Tenants())
    path.chmod(0o644)
    assert read_tenants(path) == Tenants()
    for mode in (0o620, 0o602):
        path.chmod(mode)
        with pytest.raises(PermissionDenied, match="written by others"):
            read_tenants(path)


def test_what_may_not_be_in_the_file_is_not_written_and_the_old_one_stays(path: Path) -> None:
    tenants, _ = with_token(Tenants(), "acme")
    write_tenants(path, tenants)
    with pytest.raises(DraftError):
        write_tenants(path, Tenants({"a": Tenant("a", ("in the clear",))}))
    assert read_tenants(path) == tenants
    assert [found.name for found in path.parent.iterdir()] == [path.name]


def test_the_limits_themselves_are_allowed(path: Path) -> None:
    tokens = tuple(hashed_token(str(i)) for i in range(TOKENS_MAX))
    for one in (Tenant("n" * 64, tokens), Tenant("n" * 63, tokens[1:], ("c" * 512,))):
        write_tenants(path, Tenants({one.name: one}))
        assert read_tenants(path).by_name == {one.name: one}
    for bad in (Tenant("n" * 65), Tenant("a", (), ("c" * 513,)), Tenant("")):
        with pytest.raises(InvalidInput):
            write_tenants(path, Tenants({bad.name: bad}))
    many = {f"t{i}": Tenant(f"t{i}") for i in range(1024)}
    write_tenants(path, Tenants(many))
    assert len(read_tenants(path).by_name) == 1024
