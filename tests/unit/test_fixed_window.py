"""The connection of a Python worker, over which its TaskManager sends records, with gRPC's own server and client."""

import subprocess
import sys

READ = 400
"""As many messages as a window needs to grow."""
PROGRAM = """
import sys, time
from concurrent.futures import ThreadPoolExecutor
import grpc
from apache_beam.runners.worker.channel_factory import GRPCChannelFactory
if sys.argv[1] == "with":
    import common.flink.patches.fixed_window

MESSAGE = bytes(64 * 1024)
READ = int(sys.argv[2])
sent = 0

def messages(request, context):
    global sent
    while context.is_active():
        sent += 1
        yield MESSAGE

handler = grpc.unary_stream_rpc_method_handler(messages)
server = grpc.server(ThreadPoolExecutor(1))
server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("test", {"records": handler})])
port = server.add_insecure_port("127.0.0.1:0")
server.start()
with GRPCChannelFactory.insecure_channel(f"127.0.0.1:{port}") as channel:
    stream = channel.unary_stream("/test/records")(b"")
    for _ in range(READ):
        next(stream)
    before = -1
    while before != sent:
        before = sent
        # Until the server has been blocked for so long.
        time.sleep(1)
    print(sent - READ)
    stream.cancel()
server.stop(None)
"""


def sent_ahead(how: str) -> int:
    """The messages of 64 KiB that a server can send to a worker that has read some, and reads no more."""
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM, how, str(READ)], capture_output=True, text=True, check=True, timeout=60
    )
    return int(result.stdout)


def test_few_records_wait_in_the_connection_of_a_worker_that_is_busy() -> None:
    # One in the window, and one that does not fit.
    assert sent_ahead("with") <= 3
    # The patch can go when this is as few.
    assert sent_ahead("without") > 20
