"""The local world under kill -9: data survives, and nothing outlives its parent."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from common.servers.kafka import watermarks
from local.config import REPOSITORY, Config, environment_name, load_config
from local.world import World
from tests.support.cassandra_session import connect
from tests.support.waiting import TIMEOUT_SECONDS, wait_until

COMMAND_TIMEOUT_SECONDS = TIMEOUT_SECONDS


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return load_config({}).isolated(tmp_path)


@pytest.fixture
def environment(config: Config) -> dict[str, str]:
    """Makes `python -m local` use `config`."""
    keys = {environment_name(key): str(port) for key, port in config.ports()}
    return os.environ | keys | {environment_name("state_folder"): str(config.state_folder)}


def local(environment: dict[str, str], command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "local", command],
        cwd=REPOSITORY,
        env=environment,
        capture_output=True,
        text=True,
        timeout=COMMAND_TIMEOUT_SECONDS,
        check=False,
    )


@pytest.fixture
def background(config: Config, environment: dict[str, str]) -> Iterator[dict[str, str]]:
    """The environment of commands; whatever they leave running is stopped at the end."""
    yield environment
    assert local(environment, "down").returncode == 0
    assert processes_of(config) == []


def processes_of(config: Config) -> list[psutil.Process]:
    """Every process that has the world's state folder in its command line, its environment or as its working folder."""
    folder = str(config.state_folder)
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid == os.getpid() or process.status() == psutil.STATUS_ZOMBIE:
                continue
            texts = [*process.cmdline(), *process.environ().values(), process.cwd()]
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
        if any(folder in text for text in texts):
            found.append(process)
    return found


def test_acknowledged_data_survives_kill_9(mortal_world: World, unique: str) -> None:
    world, topic, numbers = mortal_world, f"{unique}.survivors", range(1000)
    refused: list[str] = []
    producer = Producer({"bootstrap.servers": world.kafka.bootstrap_servers, "log_level": 0})
    for number in numbers:
        producer.produce(
            topic,
            str(number).encode(),
            on_delivery=lambda error, _: refused.append(str(error)) if error else None,
        )
    assert producer.flush(TIMEOUT_SECONDS) == 0
    assert refused == []
    with connect(world.cassandra) as session:
        insert = session.prepare("INSERT INTO course_batch (courseid, batchid) VALUES (?, ?)")
        for future in [session.execute_async(insert, [unique, str(number)]) for number in numbers]:
            future.result()
    with world.redis.client() as client:
        for number in numbers:
            client.set(f"{unique}-{number}", number)

    servers = (world.kafka, world.cassandra, world.redis)
    old = [server.pid for server in servers]
    for server in servers:
        server.kill()
    assert not any(map(psutil.pid_exists, old))
    for server in servers:
        server.launch()
    for server in servers:
        server.wait_until_ready()

    consumer = Consumer({"bootstrap.servers": world.kafka.bootstrap_servers, "group.id": "survivors"})
    try:
        partitions = consumer.list_topics(topic, timeout=30).topics[topic].partitions
        ends = [watermarks(consumer, TopicPartition(topic, part), 30)[1] for part in partitions]
    finally:
        consumer.close()
    assert sum(ends) == len(numbers)
    with connect(world.cassandra) as session:
        count = session.execute("SELECT count(*) FROM course_batch WHERE courseid = %s", [unique]).one().count
    assert count == len(numbers)
    with world.redis.client() as client:
        assert client.exists(*(f"{unique}-{number}" for number in numbers)) == len(numbers)


def test_up_status_and_down(background: dict[str, str], config: Config) -> None:
    assert local(background, "status").returncode == 3
    nothing = local(background, "down")
    assert (nothing.returncode, nothing.stdout) == (0, "nothing is running\n")

    up = local(background, "up")
    assert up.returncode == 0, up.stderr
    assert f"http://127.0.0.1:{config.flink.rest_port}" in up.stdout
    assert f"127.0.0.1:{config.cassandra.port}" in up.stdout
    running = {process.pid for process in processes_of(config)}

    again = local(background, "up")
    assert again.returncode == 0, again.stderr
    assert again.stdout.startswith("already running")
    assert {process.pid for process in processes_of(config)} == running

    status = local(background, "status")
    assert status.returncode == 0
    for name in ("Kafka", "Cassandra", "Redis", "Flink JobManager", "Flink TaskManager 0"):
        assert f"{name:20} running" in status.stdout

    (redis,) = [process for process in processes_of(config) if process.name() == "redis-server"]
    redis.kill()
    wait_until(lambda: local(background, "status").returncode == 1, "status sees that a server has ended")
    assert "Redis                ENDED" in local(background, "status").stdout
    broken = local(background, "up")
    assert (broken.returncode, "Redis ended since" in broken.stderr) == (1, True)

    down = local(background, "down")
    assert (down.returncode, down.stdout) == (0, "stopped\n")
    assert processes_of(config) == []
    assert local(background, "status").returncode == 3


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGKILL])
def test_up_that_is_interrupted_leaves_nothing_running(
    background: dict[str, str], config: Config, sign: signal.Signals
) -> None:
    up = subprocess.Popen(
        [sys.executable, "-m", "local", "up"],
        cwd=REPOSITORY,
        env=background,
        text=True,
        # A shell starts its background jobs with SIGINT ignored, and so may have started these tests.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 - one system call
    )
    # Half-way: some servers have been launched, none can be ready.
    wait_until((config.state_folder / "cassandra" / "server.log").exists, "servers are being launched")
    up.send_signal(sign)
    assert up.wait(COMMAND_TIMEOUT_SECONDS) == (130 if sign == signal.SIGINT else -signal.SIGKILL)
    wait_until(lambda: processes_of(config) == [], "nothing is left")
    assert local(background, "status").returncode == 3


def test_a_killed_supervisor_takes_its_servers_along(background: dict[str, str], config: Config) -> None:
    up = subprocess.Popen([sys.executable, "-m", "local", "up"], cwd=REPOSITORY, env=background)
    try:
        # The last one that is launched. None has to be ready: the kernel watches each from its launch on.
        wait_until((config.state_folder / "kafka" / "server.log").exists, "all servers are launched")
        supervisor = psutil.Process(
            json.loads((config.state_folder / "supervisor.json").read_text())["supervisor"]["pid"]
        )
        # Its log is opened shortly before.
        wait_until(lambda: len(supervisor.children()) == 5, "its process is there, too")
        supervisor.kill()
        assert up.wait(COMMAND_TIMEOUT_SECONDS) == 1
    finally:
        up.kill()
        up.wait()
    wait_until(lambda: processes_of(config) == [], "the servers end with the supervisor")
    assert local(background, "status").returncode == 3


def test_a_reused_process_number_is_not_taken_for_the_supervisor(background: dict[str, str], config: Config) -> None:
    stranger = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3600)"])
    try:
        state = {"supervisor": {"name": "supervisor", "pid": stranger.pid, "created": 1.0}, "servers": []}
        (config.state_folder / "supervisor.json").write_text(json.dumps(state))
        assert local(background, "down").stdout == "nothing is running\n"
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()
