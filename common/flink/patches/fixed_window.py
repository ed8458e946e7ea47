"""Keeps gRPC from holding megabytes of records on their way from a TaskManager to its Python worker.

gRPC lets a connection's window grow, up to megabytes, so that networks with long round trips are filled. Here it only
means that thousands of small records lie there, which no limit of PyFlink, Beam and the stage knows of. Each checkpoint
waits for them. With this module the window stays at 64 KiB.

``PythonStageOperator`` names it in Beam's option ``beam_plugins``: a worker imports it before it connects. A worker
that is a thread of the client, as with ``flink run --target local``, does not.
"""

from apache_beam.runners.worker.channel_factory import GRPCChannelFactory

OPTION = ("grpc.http2.bdp_probe", 0)
"""gRPC probes the product of bandwidth and delay, and makes the window as large."""

if OPTION not in GRPCChannelFactory.DEFAULT_OPTIONS:
    GRPCChannelFactory.DEFAULT_OPTIONS.append(OPTION)
