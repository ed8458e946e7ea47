"""The configuration of the local world and its messages."""

import socket
from pathlib import Path

import pytest

from local.config import CONFIG_FILE, REPOSITORY, environment_name, is_free, load_config
from local.errors import LocalWorldError


def test_the_checked_in_file_is_complete_and_valid() -> None:
    config = load_config({})
    assert config.state_folder == REPOSITORY / ".local"
    assert dict(config.ports()) == {
        "kafka.port": 19092,
        "kafka.controller_port": 19093,
        "cassandra.port": 19142,
        "cassandra.storage_port": 19143,
        "redis.port": 16379,
        "postgres.port": 15432,
        "services.port": 19185,
        "services.internal_port": 19186,
        "desk.port": 19187,
        "http_services.port": 19180,
        "flink.rest_port": 18081,
        "flink.rpc_port": 16123,
    }


def test_every_key_can_be_overridden_by_its_variable() -> None:
    config = load_config(
        {
            "SUNBIRD_LOCAL_STATE_FOLDER": "/somewhere",
            "SUNBIRD_LOCAL_CASSANDRA_STORAGE_PORT": "29143",
            "SUNBIRD_LOCAL_START_TIMEOUT_SECONDS": "7.5",
            "SOMETHING_ELSE": "1",
        }
    )
    assert config.state_folder == Path("/somewhere")
    assert config.cassandra.storage_port == 29143
    assert config.start_timeout_seconds == 7.5
    assert environment_name("cassandra.storage_port") == "SUNBIRD_LOCAL_CASSANDRA_STORAGE_PORT"


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"SUNBIRD_LOCAL_REDIS_PORT": "abc"}, r"redis\.port \(or SUNBIRD_LOCAL_REDIS_PORT\) is 'abc': .*integer"),
        ({"SUNBIRD_LOCAL_REDIS_PORT": "80"}, r"redis\.port .* is '80': .*greater than or equal to 1024"),
        ({"SUNBIRD_LOCAL_REDIS_PORT": "19092"}, r"kafka\.port and redis\.port are both 19092"),
        (
            {"SUNBIRD_LOCAL_REDISPORT": "1"},
            r"unknown environment variables SUNBIRD_LOCAL_REDISPORT; there are .*REDIS_PO",
        ),
    ],
)
def test_a_wrong_variable_is_named_with_its_value_and_what_is_allowed(
    environment: dict[str, str], message: str
) -> None:
    with pytest.raises(LocalWorldError, match=message):
        load_config(environment)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "  port: 16379",
            "  prot: 16379",
            r"redis\.port is missing\n.*redis\.prot is unknown; there are .*redis\.port",
        ),
        ("  task_managers: 1", "  task_managers: many", r"flink\.task_managers .* is 'many'"),
    ],
)
def test_a_wrong_key_in_the_file_is_named(tmp_path: Path, old: str, new: str, message: str) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(CONFIG_FILE.read_text().replace(old, new))
    with pytest.raises(LocalWorldError, match=message):
        load_config({}, file)


def test_an_isolated_world_has_free_ports_and_a_folder_of_its_own(tmp_path: Path) -> None:
    config = load_config({})
    isolated = config.isolated(tmp_path)
    assert isolated.state_folder == tmp_path
    ports = [port for _, port in isolated.ports()]
    assert len(set(ports)) == len(ports) == len(list(config.ports()))
    assert all(map(is_free, ports))
    assert not set(ports) & {port for _, port in config.ports()}
    assert isolated.kafka.partitions == config.kafka.partitions


def test_a_port_that_is_listened_on_is_not_free() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert not is_free(port)
    assert is_free(port)
