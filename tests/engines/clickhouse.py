"""
ClickHouse on a port: the engine of chDB behind as much of the HTTP interface as a client library uses.

Invariant: what is stored and answered is the engine's own; of this file are only the door (user and password), the way
in and out (HTTP, compression, error codes in headers), and nothing else. It runs in a process of its own, because the
engine of a process has one directory, and because a test wants to kill it or let it hang:

    python tests/engines/clickhouse.py PORT DIRECTORY
"""

from __future__ import annotations

import base64
import re
import sys
import tempfile
from pathlib import Path
from urllib.parse import unquote

import chdb
import lz4.frame
from aiohttp import web

USER = "costmeter"
PASSWORD = "correct-horse-battery"
_DOOR = {"authorization": "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()}
_TRANSPORT = {
    "query", "database", "wait_end_of_query", "client_protocol_version", "enable_http_compression", "compress",
    "send_progress_in_http_headers", "http_headers_progress_interval_ms", "query_id", "session_id",
}  # fmt: skip
_INSERT = re.compile(rb"\s*(INSERT INTO [^\n]*?) FORMAT (\w+)\n", re.IGNORECASE)
_CODE = re.compile(r"Code: (\d+)")


class Server:
    """Answers requests with the engine in one directory; one at a time."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory / "data"
        self._engine = chdb.connect(str(self._directory))

    async def answer(self, request: web.Request) -> web.Response:
        """Run one query."""
        if request.headers.get("authorization") != _DOOR["authorization"]:
            return _failure(403, "Code: 516. DB::Exception: costmeter: Authentication failed (AUTHENTICATION_FAILED)")
        body = await request.read()
        if request.headers.get("Content-Encoding") == "lz4":
            body = _unpacked(body)
        try:
            return web.Response(body=self._run(dict(request.query), body), headers={"X-ClickHouse-Timezone": "UTC"})
        except RuntimeError as error:
            return _failure(500, str(error))

    def _run(self, query: dict[str, str], body: bytes) -> bytes:
        session = chdb.connect(str(self._directory))
        try:
            if "database" in query:
                session.query(f"USE `{query['database']}`")
            for name, value in query.items():
                if name not in _TRANSPORT and not name.startswith("param_"):
                    session.query(f"SET {name} = '{value}'")
            parameters = {name[6:]: unquote(value) for name, value in query.items() if name.startswith("param_")}
            text = query.get("query", "").encode() + (b"\n" if "query" in query and body else b"") + body
            return (
                self._insert(session, text) or session.query(text.decode(), "TabSeparated", params=parameters).bytes()
            )
        finally:
            session.close()

    def _insert(self, session: chdb.Connection, text: bytes) -> bytes | None:
        found = _INSERT.match(text)
        if found is None:
            return None
        with tempfile.NamedTemporaryFile() as data:
            data.write(text[found.end() :])
            data.flush()
            session.query(f"{found[1].decode()} FROM INFILE '{data.name}' FORMAT {found[2].decode()}")
        return b"\n"


def _unpacked(body: bytes) -> bytes:
    parts = []
    while body:  # a frame per block
        frame = lz4.frame.LZ4FrameDecompressor()
        parts.append(frame.decompress(body))
        body = frame.unused_data or b""
    return b"".join(parts)


def _failure(status: int, text: str) -> web.Response:
    found = _CODE.search(text)
    return web.Response(
        status=status, text=text[found.start() if found else 0 :], headers={"X-ClickHouse-Exception-Code": found[1]}
    )


if __name__ == "__main__":
    application = web.Application(client_max_size=1 << 30)
    application.router.add_route("*", "/", Server(Path(sys.argv[2])).answer)
    web.run_app(application, host="127.0.0.1", port=int(sys.argv[1]), print=None, access_log=None)
