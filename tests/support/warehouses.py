"""Servers that answer as Snowflake and Redshift do, for dbt's real adapters.

Snowflake is fakesnow, in a virtual environment of its own. Redshift is PostgreSQL behind a proxy:
Redshift's driver sends parameters that PostgreSQL does not know, and wants an older version.
"""

import contextlib
import os
import shutil
import socket
import struct
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Self

from support.tools import VENVS, require

_FAKESNOW = """
import sys, fakesnow
with fakesnow.server(port=int(sys.argv[1])):
    print("ready", flush=True)
    sys.stdin.read()
"""

FAKESNOW_MACROS = """
{# fakesnow has neither temporary tables for several statements nor a merge with conditions. #}
{% macro build_snapshot_staging_table(strategy, sql, target_relation) %}
    {% set staging = make_temp_relation(target_relation).incorporate(type='table') %}
    {% set rows = snapshot_staging_table(strategy, sql, target_relation) %}
    {% call statement('staging') %}{{ create_table_as(False, staging, rows) }}{% endcall %}
    {{ return(staging) }}
{% endmacro %}

{% macro snowflake__post_snapshot(staging_relation) %}
    {% do adapter.drop_relation(staging_relation) %}
{% endmacro %}

{% macro snowflake__snapshot_merge_sql(target, source, insert_cols) %}
    {% call statement('closed') %}
        update {{ target.render() }} as target
        set dbt_valid_to = source.dbt_valid_to
        from {{ source }} as source
        where
            source.dbt_scd_id = target.dbt_scd_id
            and target.dbt_valid_to is null
            and source.dbt_change_type in ('update', 'delete')
    {% endcall %}
    insert into {{ target.render() }} ({{ insert_cols | join(', ') }})
    select {{ insert_cols | join(', ') }} from {{ source }} where dbt_change_type = 'insert'
{% endmacro %}
"""
"""For a project that takes a snapshot a second time on `snowflake`."""

# What Redshift has and PostgreSQL does not.
_REDSHIFT = """
create function getdate() returns timestamp language sql as 'select now()::timestamp';
create function pg_get_late_binding_view_cols() returns setof record
    language sql as 'select null::text, null::text, null::text, null::text, null::int where false';
create table pg_catalog.svv_external_columns (
    schemaname text, tablename text, columnname text, external_type text, columnnum int
);
"""

# Parameters of the startup message that only Redshift knows.
_DROPPED = {
    b"client_protocol_version",
    b"driver_discovery_version",
    b"driver_version",
    b"os_version",
    b"plugin_name",
}
_SSL_REQUEST = 80877103


@contextlib.contextmanager
def snowflake() -> Iterator[dict[str, str]]:
    """The variables of dbt's profile for a Snowflake."""
    python = require(VENVS / "fakesnow/bin/python", "dbt on Snowflake")
    port = _free_port()
    server = subprocess.Popen(
        [python, "-c", _FAKESNOW, str(port)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    try:
        assert server.stdout is not None
        assert server.stdout.readline() == b"ready\n"
        yield {
            "DBT_TARGET": "snowflake",
            "DBT_ENV_SECRET_PASSWORD": "fake-password",
            "SNOWFLAKE_ACCOUNT": "fakesnow",
            "SNOWFLAKE_USER": "fake",
            "SNOWFLAKE_ROLE": "PUBLIC",
            "SNOWFLAKE_WAREHOUSE": "WH",
            "SNOWFLAKE_DATABASE": "ANALYTICS",
            "SNOWFLAKE_HOST": "127.0.0.1",
            "SNOWFLAKE_PORT": str(port),
            "SNOWFLAKE_PROTOCOL": "http",
        }
    finally:
        server.communicate(b"", timeout=30)


@contextlib.contextmanager
def redshift() -> Iterator[dict[str, str]]:
    """The variables of dbt's profile for a Redshift."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    require(programs[-1] / "postgres" if programs else "postgres", "dbt on Redshift")
    bin_ = programs[-1]
    # pytest's folders are closed to other users, and PostgreSQL refuses to run as root.
    data = Path(tempfile.mkdtemp(prefix="cipipe-postgresql-", dir="/tmp"))
    as_user: list[str | Path] = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    if as_user:
        shutil.chown(data, "postgres", "postgres")
    port = _free_port()
    _run([*as_user, bin_ / "initdb", "-D", data, "-A", "trust", "-U", "dbt"])
    options = f"-p {port} -k {data} -c listen_addresses=127.0.0.1 -c allow_system_table_mods=on"
    control: list[str | Path] = [*as_user, bin_ / "pg_ctl", "-D", data, "-w", "-l", data / "log"]
    _run([*control, "-o", options, "start"])
    try:
        psql: list[str | Path] = [
            bin_ / "psql",
            "-h",
            "127.0.0.1",
            "-p",
            str(port),
            "-U",
            "dbt",
            "-d",
            "postgres",
        ]
        _run([*psql, "-v", "ON_ERROR_STOP=1", "-c", _REDSHIFT])
        with _Proxy(port) as proxy:
            yield {
                "DBT_TARGET": "redshift",
                "DBT_ENV_SECRET_PASSWORD": "any-password",
                "REDSHIFT_HOST": "127.0.0.1",
                "REDSHIFT_PORT": str(proxy.port),
                "REDSHIFT_USER": "dbt",
                "REDSHIFT_DATABASE": "postgres",
                "REDSHIFT_SCHEMA": "emp",
                "REDSHIFT_SSLMODE": "disable",
                # Of the server behind the proxy.
                "POSTGRESQL_PORT": str(port),
            }
    finally:
        _run([*control, "-m", "immediate", "stop"])
        shutil.rmtree(data)


def query(variables: Mapping[str, str], sql: str) -> str:
    """The rows of a query of a Redshift, as psql prints them: columns separated by `|`."""
    psql = ["psql", "-h", "127.0.0.1", "-p", variables["POSTGRESQL_PORT"], "-U", "dbt"]
    done = subprocess.run(
        [*psql, "-d", "postgres", "-At", "-c", sql], check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


class _Proxy:
    """Makes a PostgreSQL look like Redshift to its driver."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._open: list[socket.socket] = []

    def __enter__(self) -> Self:
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        for one in (self._listener, *self._open):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self._target))
            self._open += [client, server]
            threading.Thread(target=self._to_server, args=(client, server), daemon=True).start()
            threading.Thread(target=self._to_client, args=(server, client), daemon=True).start()

    def _to_server(self, client: socket.socket, server: socket.socket) -> None:
        with contextlib.suppress(OSError):
            body = _exactly(client, 4)
            rest = _exactly(client, struct.unpack("!I", body)[0] - 4)
            if struct.unpack("!I", rest[:4])[0] == _SSL_REQUEST:
                client.sendall(b"N")
                body = _exactly(client, 4)
                rest = _exactly(client, struct.unpack("!I", body)[0] - 4)
            fields = rest[4:].rstrip(b"\0").split(b"\0")
            kept = b""
            for name, value in zip(fields[::2], fields[1::2], strict=False):
                if name not in _DROPPED:
                    kept += name + b"\0" + value + b"\0"
            message = rest[:4] + kept + b"\0"
            server.sendall(struct.pack("!I", len(message) + 4) + message)
            while piece := client.recv(65536):
                server.sendall(piece)
            server.shutdown(socket.SHUT_WR)

    def _to_client(self, server: socket.socket, client: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                kind = _exactly(server, 1)
                size = struct.unpack("!I", _exactly(server, 4))[0]
                body = _exactly(server, size - 4)
                if kind == b"S" and body.startswith(b"server_version\0"):
                    body = b"server_version\x008.0.2\0"
                client.sendall(kind + struct.pack("!I", len(body) + 4) + body)


def _exactly(source: socket.socket, size: int) -> bytes:
    found = b""
    while len(found) < size:
        piece = source.recv(size - len(found))
        if not piece:
            raise ConnectionResetError
        found += piece
    return found


def _run(argv: Sequence[str | Path]) -> None:
    # A folder that PostgreSQL's user may enter.
    subprocess.run(argv, check=True, capture_output=True, cwd="/")


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])
