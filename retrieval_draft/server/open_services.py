"""Health and reflection, which answer whoever asks: on few threads, and none of those that draft.

A call holds a thread from its start, whether its message comes or not, and here nobody is asked who calls.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

import grpc
from grpc_health.v1 import health, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2_grpc

HEALTH_THREADS_MAX = 16
REFLECTION_THREADS_MAX = 4

_Given = ParamSpec("_Given")
_Answer = TypeVar("_Answer")


def add_open_services(server: grpc.Server, services: tuple[str, ...]) -> health.HealthServicer:
    """Serve both, and name `services` by reflection. How they are is for the caller to set."""
    threads = ThreadPoolExecutor(HEALTH_THREADS_MAX, thread_name_prefix="health")
    status = health.HealthServicer(experimental_thread_pool=threads)
    status.Check = _on(threads, status.Check)
    health_pb2_grpc.add_HealthServicer_to_server(status, server)
    threads = ThreadPoolExecutor(REFLECTION_THREADS_MAX, thread_name_prefix="reflection")
    named = reflection.ReflectionServicer((*services, health.SERVICE_NAME, reflection.SERVICE_NAME))
    named.ServerReflectionInfo = _on(threads, named.ServerReflectionInfo)
    reflection_pb2_grpc.add_ServerReflectionServicer_to_server(named, server)
    return status


def _on(
    threads: ThreadPoolExecutor, handler: Callable[_Given, _Answer]
) -> Callable[_Given, _Answer]:
    """The handler, marked for gRPC with the threads that it runs on."""

    def marked(*given: _Given.args, **named: _Given.kwargs) -> _Answer:
        return handler(*given, **named)

    marked.__dict__["experimental_thread_pool"] = threads
    return marked
