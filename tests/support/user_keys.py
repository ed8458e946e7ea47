"""Prints as JSON the keys that UserKeySchema gives to Kafka values: `python -m tests.support.user_keys FILE`.

FILE holds `{"path": [member, ...], "values": [base64, ...]}`. The connector has to be on the classpath.
"""

import base64
import json
import sys
from pathlib import Path

from pyflink.java_gateway import get_gateway
from pyflink.util.java_utils import to_jarray


def main(file: str) -> None:
    given = json.loads(Path(file).read_text())
    jvm = get_gateway().jvm
    schema = jvm.org.sunbird.aggregates.UserKeySchema(to_jarray(jvm.java.lang.String, given["path"]))
    rows = jvm.java.util.ArrayList()
    collector = jvm.org.apache.flink.api.common.functions.util.ListCollector(rows)
    for value in given["values"]:
        record = jvm.org.apache.flink.kafka.shaded.org.apache.kafka.clients.consumer.ConsumerRecord(
            "topic", 0, 0, None, base64.b64decode(value)
        )
        schema.deserialize(record, collector)
    print(json.dumps([row.getField(0) for row in rows]))


if __name__ == "__main__":
    main(sys.argv[1])
