"""Prints as JSON with what error Beam's factory of bundles, and ours, close once a last bundle has closed the worker.

null is none. `python -m tests.support.bundle_factory`, with the connector on the classpath.
"""

import json
from typing import Any

from py4j.protocol import Py4JJavaError
from pyflink.java_gateway import get_gateway


def main() -> None:
    ours = get_gateway().jvm.org.sunbird.aggregates.TolerantJobBundleFactory
    print(json.dumps({"beam": _close(_factory()), "ours": _close(ours(_factory()))}))


def _close(factory: Any) -> str | None:
    try:
        factory.close()
    except Py4JJavaError as error:
        return str(error.java_exception.getMessage())
    return None


def _factory() -> Any:
    """A real one in the middle of its end: it knows of a bundle, which another thread has ended meanwhile."""
    jvm = get_gateway().jvm
    job = jvm.org.apache.beam.runners.fnexecution.provisioning.JobInfo.create(
        "job", "job", "", jvm.org.apache.beam.vendor.grpc.v1p60p1.com.google.protobuf.Struct.getDefaultInstance()
    )
    factory = jvm.org.apache.beam.runners.fnexecution.control.DefaultJobBundleFactory.create(job)
    environment = jvm.org.apache.beam.runners.fnexecution.environment.RemoteEnvironment.forHandler(
        jvm.org.apache.beam.model.pipeline.v1.RunnerApi.Environment.getDefaultInstance(),
        jvm.org.apache.beam.runners.fnexecution.control.FnApiControlClient.forRequestObserver(
            "worker", None, jvm.java.util.concurrent.ConcurrentHashMap()
        ),
    )
    harness_client = jvm.java.lang.Class.forName(
        "org.apache.beam.runners.fnexecution.control.DefaultJobBundleFactory$WrappedSdkHarnessClient"
    )
    (constructor,) = harness_client.getDeclaredConstructors()
    constructor.setAccessible(True)
    arguments = get_gateway().new_array(jvm.java.lang.Object, 3)
    arguments[0] = environment
    client = constructor.newInstance(arguments)
    _field(client, "closed").set(client, True)
    give_up = harness_client.getDeclaredMethod("unref", get_gateway().new_array(jvm.java.lang.Class, 0))
    give_up.setAccessible(True)
    give_up.invoke(client, get_gateway().new_array(jvm.java.lang.Object, 0))
    _field(factory, "evictedActiveClients").get(factory).add(client)
    return factory


def _field(thing: Any, name: str) -> Any:
    field = thing.getClass().getDeclaredField(name)
    field.setAccessible(True)
    return field


if __name__ == "__main__":
    main()
