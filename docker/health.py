"""A container's health check: exits 0 if the gRPC server at TARGET (unix:PATH or HOST:PORT) says SERVING."""

import sys

import grpc
from grpc_health.v1 import health_pb2

METHOD = "/grpc.health.v1.Health/Check"
SECONDS_MAX = 4.0


def main(target: str) -> str:
    """What is wrong; empty if nothing is."""
    with grpc.insecure_channel(target) as channel:
        check = channel.unary_unary(
            METHOD,
            request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
            response_deserializer=health_pb2.HealthCheckResponse.FromString,
        )
        try:
            answer = check(health_pb2.HealthCheckRequest(), timeout=SECONDS_MAX)
        except grpc.RpcError as error:
            return f"{target}: {error.code().name}"
    serving = health_pb2.HealthCheckResponse.SERVING
    return "" if answer.status == serving else f"{target} does not serve yet"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]) or 0)
