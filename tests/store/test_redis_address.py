"""What a URL of a Redis says, and what is refused."""

from pathlib import Path

import pytest

from retrieval_draft.errors import InvalidInput
from retrieval_draft.store.redis_address import (
    PASSWORD_VARIABLE,
    Login,
    RedisAddress,
    parse_redis_url,
    private_url,
    shown_url,
    unix_url,
    with_files,
)


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("redis://", RedisAddress("single", (("localhost", 6379),))),
        ("redis://h:1/2", RedisAddress("single", (("h", 1),), db=2)),
        ("redis://[::1]:7?db=3", RedisAddress("single", (("::1", 7),), db=3)),
        ("rediss://h", RedisAddress("single", (("h", 6379),), tls=True)),
        (
            "redis://me:p%40s%23@h",
            RedisAddress("single", (("h", 6379),), login=Login("me", "p@s#")),
        ),
        ("unix:///a%20b.sock?db=1", RedisAddress("single", socket="/a b.sock", db=1)),
        (
            "redis+sentinel://me:pw@a:1,b/drafts/4?sentinel_username=s&sentinel_password=q",
            RedisAddress(
                "sentinel",
                (("a", 1), ("b", 26379)),
                service="drafts",
                db=4,
                login=Login("me", "pw"),
                sentinel_login=Login("s", "q"),
            ),
        ),
        (
            "rediss+cluster://a:1,b:2?ssl_check_hostname=no",
            RedisAddress("cluster", (("a", 1), ("b", 2)), tls=True, check_hostname=False),
        ),
    ],
)
def test_a_url_is_taken_apart(url: str, address: RedisAddress) -> None:
    assert parse_redis_url(url) == address


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("redis+sentinel://h:1", "SERVICE"),
        ("redis+cluster://h:1/2", "a database up to 0"),
        ("redis://h?ssl_ca_certs=/x", "rediss://"),
        ("rediss://h?ssl_ca_certs=/no/such", "a file that can be read"),
        ("redis://h?timeout=3", "not timeout"),
        ("redis://h:0", "a valid URL"),
        ("redis://h/x", "a valid URL"),
        ("redis://h#1", "%23"),
        ("unix://", "unix:///path"),
        ("redis+cluster://:Xq@h?sentinel_password=Xq", "not sentinel_password"),
    ],
)
def test_what_is_wrong_is_said(url: str, why: str) -> None:
    with pytest.raises(InvalidInput, match=why) as refused:
        parse_redis_url(url)
    assert "Xq" not in str(refused.value)


def test_where_the_password_comes_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "pass word"
    file.write_text("secret\n")
    url = with_files("redis://me@h?db=1", {"password_file": file, "ssl_ca_certs": None})
    assert parse_redis_url(url).login == Login("me", password_file=str(file))
    with pytest.raises(InvalidInput, match="one password"):
        parse_redis_url(with_files("redis://:secret@h", {"password_file": file}))
    monkeypatch.setenv(PASSWORD_VARIABLE, "from-the-environment")
    assert parse_redis_url("redis://h").login == Login("", "from-the-environment")
    assert parse_redis_url(url).login.password == "", "a file is nearer"
    assert parse_redis_url(private_url("/a/b.sock")).login == Login(), "ours has none"
    sentinels = parse_redis_url("redis+sentinel://h/s")
    assert sentinels.sentinel_login == Login(), "the password of the data is not for Sentinels"


def test_neither_text_nor_repr_shows_a_password() -> None:
    url = "redis+sentinel://me:Xq1@a:1,b:2/drafts?sentinel_password=Xq2"
    assert "Xq" not in shown_url(url) + repr(parse_redis_url(url))
    assert shown_url(unix_url("/a/b")) == "unix:///a/b"
