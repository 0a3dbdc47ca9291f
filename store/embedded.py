"""A private Redis in the data folder, for a sidecar that was given none.

It listens on a 0600 Unix socket only, writes every command to disk before it answers, and never
outlives the sidecar. What is stored in it is the backend's business.
"""

import fcntl
import logging
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from time import monotonic

from retrieval_draft.errors import (
    Corrupt,
    DraftError,
    FailedPrecondition,
    PermissionDenied,
    Unreachable,
)
from retrieval_draft.store.connection import RedisFacts, describe, unchecked_client
from retrieval_draft.store.folder import DataFolder, make_private, short_socket_path
from retrieval_draft.store.redis_address import private_url
from retrieval_draft.store.server_binary import (
    Server,
    available_server,
    chosen_server,
    record_server,
)

__all__ = ["EmbeddedRedis", "Server", "available_server"]

SOCKET = "redis.sock"
START_SECONDS_MAX = 15.0
LOAD_SECONDS_MAX = 300.0  # of an append-only file, after the server is up
STOP_SECONDS_MAX = 5.0
PROBE_SECONDS_MAX = 2.0
POLL_SECONDS = 0.02
WATCH_SECONDS = 0.25  # between looks at a server that was adopted
RESTART_SECONDS = 0.5  # between attempts to bring a server back that has died
LOG_BYTES_MAX = 2**20  # above it, the log begins anew at the next start
LOG_TAIL_BYTES = 2_000

# Runs between fork and exec: a preexec_fn is not safe in a process with threads.
_LAUNCHER = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGKILL)
if os.getppid() != int(sys.argv[1]):
    sys.exit("the sidecar is gone")
os.execv(sys.argv[2], sys.argv[2:])
"""

_log = logging.getLogger(__name__)


class EmbeddedRedis:
    """The server of a data folder, from `start` to `stop`. If it dies in between it is restarted.

    On Linux the kernel kills it with the sidecar, however that ends (fsync always: nothing that was
    acknowledged is lost); the thread that starts it lives as long as it does, since the kernel ties
    it to that thread. Elsewhere, and if it was adopted, it can outlive a sidecar that is killed:
    the next one adopts it. It holds a lock on the folder, so that two can never write one file.
    """

    def __init__(self, folder: DataFolder) -> None:
        self.folder = folder.path / "redis"
        make_private(self.folder)
        self.socket = short_socket_path(folder.path, SOCKET)
        self.url = private_url(str(self.socket))
        self.server: Server | None = None
        self.facts: RedisFacts | None = None
        self._stop = threading.Event()
        self._ready = threading.Event()
        self._failure: Exception | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._keep, name="redis-keeper", daemon=True)

    @property
    def pid(self) -> int:
        """The server's process. Raises FailedPrecondition while there is none, never 0: a signal
        to process 0 would end its sender.
        """
        if self.facts is None:
            raise FailedPrecondition(f"no server runs on {self.folder}")
        return self.facts.process_id

    def start(self) -> None:
        """Returns when the server answers and has loaded its data.

        Raises FailedPrecondition if no server can read the folder or it will not start, Corrupt if
        its file is damaged, PermissionDenied if nothing can be written there, Unreachable if it takes
        too long; nothing runs then.
        """
        self._thread.start()
        self._ready.wait()
        if self._failure is not None:
            self._thread.join()
            raise self._failure

    def stop(self) -> None:
        """Shut the server down, by force if need be; when it returns the process is gone."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _keep(self) -> None:
        try:
            self._bring_up()
        except Exception as error:  # raised by `start`, in the thread of its caller
            self._failure = self._explained(error)
            self._shut_down()
            self._ready.set()
            return
        self._ready.set()
        while not self._stop.wait(WATCH_SECONDS):
            if self._alive():
                continue
            _log.error("the embedded Redis on %s has died and is restarted", self.socket)
            try:
                self._bring_up()
            except Exception as error:  # tried again: drafting goes on from memory meanwhile
                _log.error("the embedded Redis does not come back: %s", error)
                self._shut_down()
                self._stop.wait(RESTART_SECONDS)
        self._shut_down()

    def _bring_up(self) -> None:
        """Adopt the server that answers here, else start one, and wait until it has loaded."""
        import redis

        self._process, self.facts = None, None
        deadline = monotonic() + START_SECONDS_MAX
        loading_deadline = monotonic() + LOAD_SECONDS_MAX
        while True:
            try:
                self._answered(self._ask())
                return
            except redis.BusyLoadingError:
                deadline = loading_deadline
            except (redis.RedisError, OSError):
                if self._process is None:
                    self._launch_if_free()
            if self._process is not None and self._process.poll() is not None:
                raise self._died()
            if monotonic() > deadline or self._stop.wait(POLL_SECONDS):
                raise Unreachable(
                    f"the server of {self.folder} does not answer on {self.socket}; "
                    f"see {self._log_file}, or give another folder with --data"
                )

    def _ask(self) -> RedisFacts:
        client = unchecked_client(self.url, PROBE_SECONDS_MAX)
        try:
            client.ping()  # refused while it loads, unlike the questions of `describe`
            return describe(client)
        finally:
            client.close()

    def _answered(self, facts: RedisFacts) -> None:
        if Path(facts.folder).resolve() != self.folder.resolve():
            raise FailedPrecondition(
                f"the server on {self.socket} keeps its data in {facts.folder}, not in "
                f"{self.folder}; stop it, or give another folder with --data"
            )
        self.facts = facts
        if self._process is None:
            _log.info("adopted the Redis on %s (process %d)", self.socket, facts.process_id)

    def _launch_if_free(self) -> None:
        """Start a server, unless one holds the folder: it is starting, ending, or hangs."""
        lock = os.open(self.folder / "server.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._launch(lock)
        except BlockingIOError:
            pass
        finally:
            os.close(lock)

    def _launch(self, lock: int) -> None:
        server = self.server = chosen_server(self.folder)
        record_server(self.folder, server)
        command = [server.path, *self._settings()]
        if sys.platform == "linux":
            launcher = [sys.executable, "-I", "-S", "-c", _LAUNCHER, str(os.getpid())]
            command = launcher + command
        if self._log_file.exists() and self._log_file.stat().st_size > LOG_BYTES_MAX:
            self._log_file.unlink()
        with open(self._log_file, "ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - a server that the operator installed
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=(lock,),  # the lock is free when the server, not when the sidecar ends
                start_new_session=True,  # Ctrl-C is for the sidecar, which still has to flush
                umask=0o077,
            )

    def _settings(self) -> list[str]:
        settings = {
            "port": "0",
            "unixsocket": str(self.socket),
            "unixsocketperm": "600",
            "dir": str(self.folder),
            "daemonize": "no",
            "logfile": "",  # standard output
            "save": "",
            "appendonly": "yes",
            "appendfsync": "always",
            "maxmemory-policy": "noeviction",
        }
        return [part for name, value in settings.items() for part in (f"--{name}", value)]

    @property
    def _log_file(self) -> Path:
        return self.folder / "redis.log"

    def _died(self) -> DraftError:
        with open(self._log_file, "rb") as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - LOG_TAIL_BYTES))
            tail = log.read().decode(errors="replace")
        path = self.server.path if self.server else "the server"
        said = f"{path} does not start in {self.folder}; {self._log_file} ends with: {tail[-400:]}"
        return Corrupt(said) if "Bad file format" in tail else FailedPrecondition(said)

    def _explained(self, error: Exception) -> Exception:
        if not isinstance(error, OSError):
            return error
        return PermissionDenied(
            f"{self.folder} cannot be written ({error.strerror or error}); "
            "make room or give another folder with --data"
        )

    def _alive(self) -> bool:
        if self._process is not None:
            return self._process.poll() is None
        return self.facts is not None and _runs(self.facts.process_id)

    def _shut_down(self) -> None:
        """Ask it to end, and make sure."""
        import redis

        if self._process is None and self.facts is None:
            return
        client = unchecked_client(self.url, PROBE_SECONDS_MAX)
        try:
            client.shutdown(nosave=True)  # the append-only file is flushed all the same
        except (redis.RedisError, OSError) as error:
            _log.debug("the embedded Redis was not asked to end: %s", error)
        finally:
            client.close()
        deadline = monotonic() + STOP_SECONDS_MAX
        while self._alive() and monotonic() < deadline:
            threading.Event().wait(POLL_SECONDS)
        if self._alive():
            pid = self._process.pid if self._process is not None else self.pid
            _log.error("the embedded Redis (process %d) does not end and is killed", pid)
            os.kill(pid, signal.SIGKILL)
        if self._process is not None:
            self._process.wait()
        self._process, self.facts = None, None


def _runs(pid: int) -> bool:
    """Whether this process exists; one that has ended and was not waited for does not."""
    try:
        os.kill(pid, 0)
        state = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except ProcessLookupError:
        return False
    except OSError:  # no /proc, or just gone; the next look tells
        return sys.platform != "linux"
    return state.rpartition(")")[2].split()[0] != "Z"
