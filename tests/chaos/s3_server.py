"""An S3 server that can be killed: `python -m tests.chaos.s3_server PORT FOLDER`.

moto keeps its buckets in memory. Here every request that changes something is appended to a journal
before moto sees it, and a new server plays the journal before it listens. So a request that was
answered survives SIGKILL; one that was under way may have happened or not, as with a real store.
"""

from __future__ import annotations

import base64
import io
import json
import sys
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server
from werkzeug.test import Client

JOURNAL, ACCESS_LOG = "journal.jsonl", "access.log"
FULL = "full"
"""While a file of this name is in the folder, whatever is put is refused for want of space."""
LAX = "lax"
"""While a file of this name is in the folder, conditions of puts are ignored, as rclone does."""
CHANGING = ("PUT", "POST", "DELETE")
NO_SPACE = b"<Error><Code>XMinioStorageFull</Code><Message>full</Message></Error>"
KEPT = ("HTTP_", "CONTENT_")


class JournaledS3:
    """A WSGI application: moto's S3 behind a journal and an access log."""

    def __init__(self, folder: Path) -> None:
        """Play what the journal holds."""
        self._app = DomainDispatcherApplication(create_backend_app)
        self._lock = threading.Lock()
        self._full, self._lax = folder / FULL, folder / LAX
        journal = folder / JOURNAL
        if journal.exists():
            client = Client(self._app)
            for line in journal.read_text().splitlines():
                self._replay(client, json.loads(line))
        self._journal = journal.open("a", buffering=1)
        self._access = (folder / ACCESS_LOG).open("a", buffering=1)

    def __call__(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        """Answer one request."""
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        query = environ.get("QUERY_STRING", "")
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        if len(body) < int(environ.get("CONTENT_LENGTH") or 0):
            raise ConnectionError("the client went away")  # a torn upload changes nothing
        environ["wsgi.input"] = io.BytesIO(body)
        if self._lax.exists():
            environ.pop("HTTP_IF_NONE_MATCH", None)
        headers = {name: v for name, v in environ.items() if name.startswith(KEPT) and v}
        # One at a time, so that the journal has the order in which things happened.
        with self._lock:
            print(method, f"{path}?{query}" if query else path, file=self._access)
            if method == "PUT" and self._full.exists():
                start("507 Insufficient Storage", [("Content-Length", str(len(NO_SPACE)))])
                return [NO_SPACE]
            if method in CHANGING:
                entry = {"method": method, "path": path, "query": query, "headers": headers}
                entry["body"] = base64.b64encode(body).decode()
                print(json.dumps(entry), file=self._journal)
            return list(self._app(environ, start))

    @staticmethod
    def _replay(client: Client, entry: dict[str, Any]) -> None:
        client.open(
            path=entry["path"],
            query_string=entry["query"],
            method=entry["method"],
            data=base64.b64decode(entry["body"]),
            environ_overrides=entry["headers"],
        )


class _Quiet(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"  # connections live on, as with a real store

    def log(self, type: str, message: str, *args: Any) -> None:  # noqa: A002 - as its base
        return


def main(port: int, folder: Path) -> None:
    """Serve on loopback until killed."""
    server = make_server(
        "127.0.0.1", port, JournaledS3(folder), threaded=True, request_handler=_Quiet
    )
    server.serve_forever()


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
