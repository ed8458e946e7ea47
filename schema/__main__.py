"""`python -m schema apply`: brings a Cassandra cluster to the schema that the jobs need. It may be run repeatedly.

Exit codes: 0 the schema is complete, 1 it is not (the message says why), 2 wrong arguments.
"""

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from pydantic import SecretStr, ValidationError

from common.config.loader import variable
from common.config.model import CassandraConfig
from common.domain.faults import TaskFault, WorldFault
from common.servers.cassandra import StatementError
from schema.apply import SchemaError, apply_schema

# The jobs use the same variables.
_USERNAME = variable(("cassandra", "username"))
_PASSWORD = variable(("cassandra", "password"))


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command (default: the arguments of this process) and returns its exit code."""
    options = _parser().parse_args(arguments)
    try:
        asyncio.run(apply_schema(_config(options), print, options.replication))
    except ValidationError as error:
        for problem in error.errors(include_input=False):
            print("schema:", *map(str, problem["loc"]), problem["msg"], file=sys.stderr)
        return 1
    except (SchemaError, StatementError, TaskFault, WorldFault, OSError) as error:
        print(f"schema: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m schema", description=__doc__.splitlines()[0])
    apply = parser.add_subparsers(required=True, metavar="apply").add_parser(
        "apply",
        help="create what is missing, add the column aggregates",
        epilog=f"The password is taken from the environment variable {_PASSWORD} or from --password-file.",
    )
    apply.add_argument("--contact-points", required=True, metavar="HOST[,HOST]")
    apply.add_argument("--port", type=int, default=9042, help="(default: %(default)s)")
    apply.add_argument("--keyspace", default="sunbird_courses", help="of the tables (default: %(default)s)")
    apply.add_argument("--datacenter", help="the one to connect to (default: that of the first contact point)")
    apply.add_argument(
        "--replication",
        type=_replication,
        metavar="JSON",
        help='of a keyspace that does not exist yet, e.g. {"class": "NetworkTopologyStrategy", "dc1": 3} '
        "(default: one copy, for development)",
    )
    apply.add_argument("--username", default=os.environ.get(_USERNAME), help=f"or {_USERNAME}")
    apply.add_argument("--password-file", type=Path, metavar="FILE")
    apply.add_argument("--tls", action="store_true", help="connect with TLS")
    apply.add_argument("--tls-ca-file", metavar="PEM", help="authorities that the nodes' certificates are of")
    apply.add_argument("--tls-certificate-file", metavar="PEM", help="our own certificate")
    apply.add_argument("--tls-key-file", metavar="PEM", help="the key of our own certificate")
    apply.add_argument(
        "--tls-verify",
        choices=["hostname", "certificate", "none"],
        default="hostname",
        help="hostname compares the certificate with the node's IP address (default: %(default)s)",
    )
    return parser


def _replication(text: str) -> str:
    """Converts a JSON object to a CQL map, whose strings have single quotes."""
    try:
        values = json.loads(text)
    except json.JSONDecodeError as error:
        raise argparse.ArgumentTypeError(f"not JSON: {error}") from None
    if not isinstance(values, dict) or "class" not in values:
        raise argparse.ArgumentTypeError('must be an object with "class"')
    entries = ((str(key).replace("'", "''"), str(value).replace("'", "''")) for key, value in values.items())
    return "{" + ", ".join(f"'{key}': '{value}'" for key, value in entries) + "}"


def _config(options: argparse.Namespace) -> CassandraConfig:
    password = os.environ.get(_PASSWORD)
    if options.password_file:
        password = options.password_file.read_text(encoding="utf-8").rstrip("\r\n")
    return CassandraConfig.model_validate(
        {
            "contact_points": options.contact_points.split(","),
            "port": options.port,
            "keyspace": options.keyspace,
            "local_datacenter": options.datacenter,
            "username": options.username,
            "password": SecretStr(password) if password else None,
            "tls": {
                "enabled": options.tls,
                "ca_file": options.tls_ca_file,
                "certificate_file": options.tls_certificate_file,
                "key_file": options.tls_key_file,
                "verify": options.tls_verify,
            },
        }
    )


if __name__ == "__main__":
    sys.exit(main())
