#!/bin/bash
# Run once by the official image when its data folder is new: the login that may only read, with bounds on what it takes.
set -euo pipefail
clickhouse-client --host 127.0.0.1 --user "$CLICKHOUSE_USER" --password "$CLICKHOUSE_PASSWORD" \
    --param_password="$TOUCHSTONE_CLICKHOUSE_READER_PASSWORD" --multiquery <<'SQL'
CREATE SETTINGS PROFILE IF NOT EXISTS reading SETTINGS
    readonly = 2, allow_ddl = 0,
    max_execution_time = 30 MAX 30,
    max_memory_usage = 2147483648 MAX 2147483648,
    max_result_rows = 5000000 MAX 5000000,
    max_threads = 1 MAX 1;
CREATE USER IF NOT EXISTS analyst IDENTIFIED WITH sha256_password BY {password:String} SETTINGS PROFILE reading;
GRANT SELECT ON touchstone.* TO analyst;
SQL
