"""Prompts from web servers as they are: without lengths, ranges or with compression."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.errors import UserError
from pipeline.prompts.reader import read_source

WORDS = [f"prompt number {i:06d} of a red circle moving right over sand" for i in range(20_000)]
TEXT = "\n".join(WORDS).encode()


def table() -> bytes:
    out = BytesIO()
    pq.write_table(pa.table({"prompt": WORDS}), out)
    return out.getvalue()


class Server(BaseHTTPRequestHandler):
    """Serves the same words in the way that the first part of the path names."""

    protocol_version = "HTTP/1.1"
    ranges = 0

    def log_message(self, *words: Any) -> None:
        pass

    def do_GET(self) -> None:
        kind, name = self.path.partition("?")[0].strip("/").split("/")
        if kind in ("403", "404", "500"):
            self.send_error(int(kind))
            return
        data = table() if name.endswith(".parquet") else TEXT
        headers = {}
        status = 200
        if kind == "gzip":
            data, headers = gzip.compress(data), {"Content-Encoding": "gzip"}
        asked = self.headers.get("Range")
        if kind == "range" and asked:
            Server.ranges += 1
            start, end = asked.split("=")[1].split("-")
            last = min(int(end or len(data)), len(data) - 1)
            headers = {"Content-Range": f"bytes {start}-{last}/{len(data)}"}
            data, status = data[int(start) : last + 1], 206
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        if kind != "chunked":
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)
            return
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for at in range(0, len(data), 65536):
            part = data[at : at + 65536]
            self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
        self.wfile.write(b"0\r\n\r\n")


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    found = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    thread = threading.Thread(target=found.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{found.server_port}"
    found.shutdown()
    found.server_close()
    thread.join()


@pytest.mark.parametrize("name", ["p.txt", "p.parquet", "p.txt?download=true&sig=abc"])
@pytest.mark.parametrize("kind", ["range", "plain", "chunked", "gzip"])
def test_every_server_gives_every_prompt(server: str, kind: str, name: str) -> None:
    rows = list(read_source(f"{server}/{kind}/{name}"))
    assert [row.values["prompt"] for row in rows] == WORDS
    assert rows[0].key == f"{name.partition('?')[0]}:1"
    assert Server.ranges or kind != "range"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("404/p.txt", "not found; a web server cannot be listed, so name a file"),
        ("403/p.txt", "access denied"),
        ("404/folder", "not found; a web server cannot be listed, so name a file"),
    ],
)
def test_a_place_that_cannot_be_read_is_one_line(server: str, place: str, words: str) -> None:
    with pytest.raises(UserError, match=words) as caught:
        read_source(f"{server}/{place}")
    assert "\n" not in str(caught.value)
