"""A namespace's counts in Redis: the hash `counts` holds the sums, the hash `replicas` who counted.

Every replica numbers what it adds, and its number is stored in the same step as the sums: what is sent
again after a lost answer is counted once, and what arrives late from a broken connection not at all.
"""

import logging
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import cast

import redis

from retrieval_draft.errors import Corrupt
from retrieval_draft.store.connection import translated_errors
from retrieval_draft.store.counts import (
    FleetCounts,
    Heartbeat,
    add,
    decode_heartbeat,
    encode_heartbeat,
    outdated,
)
from retrieval_draft.store.keys import redis_key
from retrieval_draft.store.pending import Journal
from retrieval_draft.store.redis_writer import journal_key

ACCOUNTS_MAX = 2048
"""Namespaces remembered; more than an engine holds."""
GONE = -1

# KEYS: journal, counts, replicas. ARGV: replica, its number, heartbeat, then name and count in turn.
# A replica that was forgotten meanwhile does not know whether its last addition arrived: it is left out.
# One HSET instead of an HINCRBY for each name: a quarter of the bytes in the append-only file.
_ADD = """
if redis.call('EXISTS', KEYS[1]) == 0 then return -1 end
local number = tonumber(ARGV[2])
local held = redis.call('HGET', KEYS[3], ARGV[1])
local last = 0
if held then
  last = tonumber(string.match(held, '^%d+'))
elseif number > 1 then
  last = number
end
if last < number and #ARGV > 3 then
  local names = {}
  for i = 4, #ARGV, 2 do names[#names + 1] = ARGV[i] end
  local before = redis.call('HMGET', KEYS[2], unpack(names))
  local sums = {}
  for i, name in ipairs(names) do
    sums[2 * i - 1] = name
    sums[2 * i] = string.format('%.0f', tonumber(before[i] or 0) + tonumber(ARGV[3 + 2 * i]))
  end
  redis.call('HSET', KEYS[2], unpack(sums))
end
if last <= number then redis.call('HSET', KEYS[3], ARGV[1], ARGV[2] .. ' ' .. ARGV[3]) end
return last < number and 1 or 0
"""

_log = logging.getLogger(__name__)


def count_keys(journal: Journal) -> tuple[str, str]:
    """Where sums and replicas of this life of a namespace lie."""
    return (
        redis_key(journal.key, "counts", journal.incarnation),
        redis_key(journal.key, "replicas", journal.incarnation),
    )


@dataclass(slots=True)
class _Account:
    """What was sent under `number` and not answered yet, and what came since."""

    number: int = 0
    sent: dict[str, int] | None = None
    waiting: dict[str, int] = field(default_factory=dict[str, int])


class RedisCounts:
    """One replica's additions. Its calls wait for Redis: they are a background thread's."""

    def __init__(self, client: redis.Redis, url: str, replica: str) -> None:
        self._client, self._url, self._replica = client, url, replica
        self._accounts: dict[Journal, _Account] = {}
        self._lock = threading.Lock()

    def add(self, journal: Journal, counts: Mapping[str, int], heartbeat: Heartbeat) -> None:
        """Add to the namespace's sums, each count once. Given up if this life of it is over.

        Raises Unreachable, PermissionDenied or FailedPrecondition; what was not stored goes along
        with the next call.
        """
        with self._lock:
            account = self._account(journal)
            add(account.waiting, counts)
            is_new = account.number == 0
            if account.sent is not None and not self._send(journal, account, heartbeat):
                return
            account.number, account.sent = account.number + 1, account.waiting
            account.waiting = {}
            if self._send(journal, account, heartbeat) and is_new:
                self._forget_replicas(journal)

    def _account(self, journal: Journal) -> _Account:
        account = self._accounts.pop(journal, None) or _Account()
        self._accounts[journal] = account  # the one used last stands last
        if len(self._accounts) > ACCOUNTS_MAX:
            del self._accounts[next(iter(self._accounts))]
        return account

    def _send(self, journal: Journal, account: _Account, heartbeat: Heartbeat) -> bool:
        """Whether the namespace still lives; what was sent is stored then, and no longer held."""
        assert account.sent is not None
        pairs = [part for item in account.sent.items() for part in item]
        keys = (journal_key(journal), *count_keys(journal))
        words = (self._replica, account.number, encode_heartbeat(heartbeat), *pairs)
        with translated_errors(self._url):
            answer = self._client.eval(_ADD, len(keys), *keys, *cast(list[str], list(words)))
        account.sent = None
        if answer == GONE:
            del self._accounts[journal]
            return False
        return True

    def _forget_replicas(self, journal: Journal) -> None:
        """Once a life of this process and namespace is enough: each such life adds one replica."""
        _, replicas = count_keys(journal)
        with translated_errors(self._url):
            stored = cast(dict[bytes, bytes], self._client.hgetall(replicas))
            old = outdated(_heartbeats(stored, replicas), time.time())
            if old:
                self._client.hdel(replicas, *old)


def read_counts(client: redis.Redis, url: str, journal: Journal) -> FleetCounts:
    """What all replicas have counted in this life of the namespace."""
    counts, replicas = count_keys(journal)
    with translated_errors(url):
        sums = cast(dict[bytes, bytes], client.hgetall(counts))
        stored = cast(dict[bytes, bytes], client.hgetall(replicas))
    return FleetCounts(
        {name.decode(): int(value) for name, value in sums.items()},
        _heartbeats(stored, replicas),
    )


def _heartbeats(stored: dict[bytes, bytes], where: str) -> dict[str, Heartbeat]:
    heartbeats: dict[str, Heartbeat] = {}
    for name, value in sorted(stored.items()):
        try:
            heartbeats[name.decode()] = decode_heartbeat(value.partition(b" ")[2])
        except Corrupt as error:
            _log.error("left out a replica of %s: %s", where, error)
    return heartbeats
