"""Become a broker whose properties are the variables KAFKA_..., spelled as the official image reads them."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

JAVA = "/opt/java/bin/java"
PROPERTIES = Path("/tmp/server.properties")
NO_PROPERTIES = {"KAFKA_HEAP_OPTS", "KAFKA_OPTS", "KAFKA_JVM_PERFORMANCE_OPTS"}


def property_name(variable: str) -> str:
    name = variable.removeprefix("KAFKA_").lower()
    return name.replace("___", "\0").replace("__", "\1").replace("_", ".").replace("\1", "_").replace("\0", "-")


def main() -> None:
    given = {
        name: value for name, value in os.environ.items() if name.startswith("KAFKA_") and name not in NO_PROPERTIES
    }
    PROPERTIES.write_text("".join(f"{property_name(name)}={value}\n" for name, value in sorted(given.items())))
    java = [
        JAVA,
        *os.environ.get("KAFKA_HEAP_OPTS", "-Xmx512m").split(),
        "-XX:+UseSerialGC",
        "-cp",
        "/opt/kafka/libs/*",
    ]
    folder = Path(given["KAFKA_LOG_DIRS"])
    if not (folder / "meta.properties").is_file():
        cluster = os.environ.get("CLUSTER_ID", "5L6g3nShT-eMCtK--X86sw")
        arguments = ["kafka.tools.StorageTool", "format", "--cluster-id", cluster, "--config", str(PROPERTIES)]
        subprocess.run([*java, "-XX:TieredStopAtLevel=1", *arguments], check=True)
    os.execv(JAVA, [*java, "-XX:TieredStopAtLevel=1", "kafka.Kafka", str(PROPERTIES)])


main()
