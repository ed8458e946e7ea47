"""``python -m jobs.import_config FILE.conf``: turns the configuration of a Scala job into that of the job here.

Prints YAML for ``--config``, with the keys that differ from the defaults here. Every key of the file that has no
counterpart is listed on stderr with the reason. The file is HOCON, as it is mounted in the Scala job's pods; what it
includes (``base-config.conf``) must lie beside it.
"""

import argparse
import re
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from pyhocon import ConfigFactory
from pyhocon.exceptions import ConfigException
from pyparsing import ParseBaseException

from common.config.loader import ConfigError, load
from common.domain import topics
from jobs import config_class

Values = dict[str, Any]

_INCLUDE = re.compile(r'^\s*include\s+(?:classpath\()?"([^"]+)"', re.MULTILINE)

_SAME = {
    "kafka.broker-servers": "kafka.bootstrap_servers",
    "lms-cassandra.keyspace": "cassandra.keyspace",
    "redis.host": "redis.host",
    "redis.database.relationCache.id": "redis.relation_database",
    "redis.database.contentCache.id": "redis.content_database",
    "redis.database.collectionCache.id": "redis.collection_database",
    "assessment.skip.missingRecords": "skip_missing_records",
    "activity.module.aggs.enabled": "module_aggs",
    "dedup-redis.database.expiry": "deduplication_seconds",
    "service.learner.basePath": "learner_base_url",
    "service.content.basePath": "content_base_url",
    "cert_domain_url": "cert_domain_url",
    "cloud_storage_base_url": "cloud_storage_base_url",
    "content_cloud_storage_container": "content_cloud_storage_container",
    "assessment.metrics.supported.contenttype": "supported_content_types",
    "enable.suppress.exception": "enable_suppress_exception",
}
"""Keys whose value is taken over as it is."""

SCALA_TOPICS = {
    "assessment_aggregator": {
        "kafka.input.topic": topics.ASSESS,
        "kafka.failed.topic": topics.ASSESS_FAILED,
        "kafka.output.certissue.topic": topics.ISSUE_CERTIFICATE_REQUEST,
    },
    "activity_aggregate_updater": {
        "kafka.input.topic": topics.BATCH_JOB_REQUEST,
        "kafka.output.failed.topic": topics.ACTIVITY_AGG_FAILED,
        "kafka.output.audit.topic": topics.TELEMETRY_RAW,
        "kafka.output.certissue.topic": topics.ISSUE_CERTIFICATE_REQUEST,
    },
    "collection_cert_pre_processor": {
        "kafka.input.topic": topics.ISSUE_CERTIFICATE_REQUEST,
        "kafka.output.failed.topic": topics.ISSUE_CERTIFICATE_FAILED,
        "kafka.output.topic": topics.GENERATE_CERTIFICATE_REQUEST,
    },
}
"""The topics of each job that replaces a Scala job, by the key that names them there."""

_FIXED: Values = {
    "lms-cassandra.table": "assessment_aggregator",
    "lms-cassandra.questionudttype": "question",
    "lms-cassandra.enrolmentstable": "user_enrolments",
    "lms-cassandra.activitytable": "user_activity_agg",
    "lms-cassandra.consumption.table": "user_content_consumption",
    "lms-cassandra.user_activity_agg.table": "user_activity_agg",
    "lms-cassandra.user_enrolments.table": "user_enrolments",
    "lms-cassandra.course_batch.table": "course_batch",
    "lms-cassandra.assessment_aggregator.table": "assessment_aggregator",
    "user_read_api": "/private/user/v1/read",
    "content_read_api": "/content/v3/read",
    "cloud_store_base_path_placeholder": "CLOUD_BASE_PATH",
    "activity.input.dedup.enabled": True,
}
"""What cannot be chosen here. Another value cannot be imported, because the jobs would do something else."""

_NO_COUNTERPART = {
    "kafka.zookeeper": "Kafka clients do not use ZooKeeper",
    "job.bb": "nothing reads it",
    "job.enable.distributed.checkpointing": "set Flink's execution.checkpointing.dir",
    "job.statebackend": "set Flink's execution.checkpointing.dir",
    "task.checkpointing.interval": "Flink's execution.checkpointing.interval",
    "task.checkpointing.pause.between.seconds": "Flink's execution.checkpointing.min-pause",
    "task.checkpointing": "a checkpoint holds only Kafka offsets, and transactions with kafka.delivery: exactly_once",
    "task.restart-strategy": "jobs restart without limit, after increasing delays",
    "task.window.shards": "there are no windows",
    "task": "parallelism is Flink's: parallelism.default, or job.parallelism of a FlinkDeployment",
    "redis.connection": "a subtask has one connection to each Redis database",
    "redis-meta": "taken from redis, because the jobs use one Redis server",
    "dedup-redis": "duplicates are recognised by the write time of rows",
    "threshold": "there are no windows; the limits of a batch are in the section batch",
    "lms-cassandra.isMultiDCEnabled": "consistency is LOCAL_QUORUM; for several data centers, set local_datacenter",
    "activity.filter.processed.enrolments": "a completed enrolment stays completed; its contents are still counted",
    "user.activity.agg.type": "nothing reads it",
    "neo4j": "these jobs do not use it",
    "es": "these jobs do not use it",
    "schema": "these jobs do not use it",
    "media_download_duration": "these jobs do not use it",
    "ml-mongo": "these jobs do not use it",
    "sunbird_instance_name": "these jobs do not use it",
}
"""Why a key, or all keys below it, are not taken over. The longest key that fits counts."""


class ImportFailed(ValueError):
    """The file cannot be read, or something in it cannot be taken over. The text has one line per problem."""


@dataclass(slots=True)
class Imported:
    """`values` by their path here, `ignored` with the reason by their path in the Scala job, and `problems`."""

    values: Values = field(default_factory=dict)
    ignored: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def nested(self) -> Values:
        """The values as a configuration file has them."""
        tree: Values = {}
        for path, value in self.values.items():
            *sections, key = path.split(".")
            section = tree
            for name in sections:
                section = section.setdefault(name, {})
            section[key] = value
        return tree


def read_hocon(file: Path) -> Values:
    """All keys of a HOCON file and of the files it includes, by their path. Raises ImportFailed."""
    try:
        text = file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise ImportFailed(f"{file} cannot be read: {error}") from None
    for number, line in enumerate(text.splitlines(), 1):
        if "{{" in line and "}}" in line:
            raise ImportFailed(
                f"{file}:{number}: {line.strip()} is a placeholder of a deployment tool. Take the file as it is in the "
                "cluster: kubectl get configmap ... -o yaml"
            )
    missing = [name for name in _INCLUDE.findall(text) if not (file.parent / name).is_file()]
    if missing:
        raise ImportFailed(f"{file} includes {', '.join(missing)}: copy it to {file.parent}")
    try:
        config = ConfigFactory.parse_file(str(file))
    except (ConfigException, ParseBaseException) as error:
        raise ImportFailed(f"{file} is not valid HOCON: {error}") from None
    return dict(_flat(config.as_plain_ordered_dict()))


def _flat(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        # pyhocon keeps the quotes of quoted keys.
        path = prefix + key.strip('"')
        if isinstance(value, Mapping):
            yield from _flat(value, f"{path}.")
        else:
            yield path, value


def import_config(job: str, values: Values) -> Imported:
    """The configuration of ``job`` (a name in :data:`SCALA_TOPICS`) from the keys of :func:`read_hocon`."""
    imported = Imported()
    rest = dict(values)
    _import_kafka(job, rest, imported)
    _import_converted(rest, imported)
    for theirs, ours in _SAME.items():
        if theirs in rest:
            imported.values[ours] = rest.pop(theirs)
    for theirs, fixed in _FIXED.items():
        if theirs in rest and (value := rest.pop(theirs)) != fixed:
            imported.problems.append(f"{theirs} is {value!r}, but only {fixed!r} is possible")
        elif theirs in values:
            imported.ignored[theirs] = f"{fixed!r} is the only possible value"
    for theirs in rest:
        imported.ignored[theirs] = _reason(theirs)
    return imported


def _import_kafka(job: str, rest: Values, imported: Imported) -> None:
    """Names of topics and the group. Only those are written that the environment does not give."""
    found = {topic: rest.pop(key) for key, topic in SCALA_TOPICS[job].items() if key in rest}
    env = rest.pop("job.env", None)
    input_topic = config_class(job).input_topic
    if found.get(input_topic, "").endswith(f".{input_topic}"):
        # The topics decide: some installations leave job.env at the value that is shipped.
        env = found[input_topic].removesuffix(f".{input_topic}")
    if env is not None:
        imported.values["kafka.env"] = env
    for topic, name in found.items():
        if name != f"{env}.{topic}":
            imported.values[f"kafka.topics.{topics.key(topic)}"] = name
    group = rest.pop("kafka.groupId", None)
    if group is not None and group != f"{env}-{config_class(job).consumer_group}":
        imported.values["kafka.group_id"] = group


def _import_converted(rest: Values, imported: Imported) -> None:
    """Keys whose value has another form here."""
    values = imported.values
    if (hosts := rest.pop("lms-cassandra.host", None)) is not None:
        values["cassandra.contact_points"] = [host.strip() for host in str(hosts).split(",")]
    for theirs, ours in (("lms-cassandra.port", "cassandra.port"), ("redis.port", "redis.port")):
        if theirs in rest:
            port = str(rest.pop(theirs))
            if port.isdigit():
                values[ours] = int(port)
            else:
                imported.problems.append(f"{theirs} is {port!r}, not a number")
    for name in ("host", "port"):
        meta = rest.get(f"redis-meta.{name}")
        if meta is not None and str(meta) != str(rest.get(f"redis.{name}", values.get(f"redis.{name}"))):
            imported.problems.append(
                f"redis-meta.{name} is {meta!r} and differs from redis.{name}, but the jobs use one Redis server"
            )
    if (url := rest.pop("content.read.api", None)) is not None:
        values["content_read_api"] = f"{url.rstrip('/')}/"
    if (url := rest.pop("service.search.basePath", None)) is not None:
        values["search_api"] = f"{url.rstrip('/')}/v3/search"
    if (seconds := rest.pop("activity.collection.status.cache.expiry", None)) is not None:
        values["search_cache.ttl_ms"] = int(seconds) * 1000
    if "cloud_storage_cname_url" in rest:
        # The Scala job takes an empty text for "none".
        values["cloud_storage_cname_url"] = rest.pop("cloud_storage_cname_url") or None


def _reason(path: str) -> str:
    fitting = [key for key in _NO_COUNTERPART if path == key or path.startswith(f"{key}.")]
    return _NO_COUNTERPART[max(fitting, key=len)] if fitting else "unknown: neither this job nor the Scala job reads it"


def main(arguments: Sequence[str]) -> int:
    """Exit code 0 if the printed configuration is complete and valid, 1 if not, 2 if the file cannot be read."""
    parser = argparse.ArgumentParser(prog="python -m jobs.import_config", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("file", type=Path, metavar="FILE.conf")
    parser.add_argument("--job", choices=SCALA_TOPICS, help="the name of the file says which, unless it was renamed")
    options = parser.parse_args(arguments)
    job = options.job or options.file.stem.replace("-", "_")
    if job not in SCALA_TOPICS:
        parser.error(
            f"{options.file.name} is not named after a job: say which one with --job {{{','.join(SCALA_TOPICS)}}}"
        )
    try:
        imported = import_config(job, read_hocon(options.file))
    except ImportFailed as error:
        parser.exit(2, f"{error}\n")
    text = yaml.safe_dump(imported.nested(), sort_keys=False)
    print(text, end="")
    for path, reason in imported.ignored.items():
        print(f"not taken over: {path}: {reason}", file=sys.stderr)
    problems = imported.problems + _problems(job, text)
    for problem in problems:
        print(f"problem: {problem}", file=sys.stderr)
    return 1 if problems else 0


def _problems(job: str, text: str) -> list[str]:
    """What the job would say about the configuration if nothing else were set."""
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        file.write(text)
        file.flush()
        try:
            load(config_class(job), Path(file.name), {})
        except ConfigError as error:
            return [problem.replace(file.name, "the file") for problem in error.problems]
    return []


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
