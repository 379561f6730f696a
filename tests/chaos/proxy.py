"""A proxy between the pipeline and its S3 server that does what networks and busy stores do."""

from __future__ import annotations

import asyncio
import contextlib
import random
import threading
from collections import Counter
from collections.abc import Iterator

FAULTS = (
    "latency",
    "slow answer",
    "reset before",
    "reset after",
    "503 before",
    "500 after",
    "answer cut",
    "upload cut",
)
"""`after`: the server has done what it was asked, and only the answer is lost."""

_ERROR = "<Error><Code>{code}</Code><Message>told to</Message></Error>"


class FaultProxy:
    """Forwards one HTTP request per connection; a share `rate` of them meets a fault."""

    def __init__(self, target: int, seed: int = 0) -> None:
        """Prepare to forward to a port on loopback."""
        self.rate, self.met = 0.0, Counter[str]()
        self._target, self._random = target, random.Random(seed)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def start(self) -> str:
        """Listen, and return the URL."""
        self._thread.start()
        server = asyncio.start_server(self._serve, "127.0.0.1", 0)
        listening = asyncio.run_coroutine_threadsafe(server, self._loop).result()
        return f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"

    def stop(self) -> None:
        """Stop."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    @contextlib.contextmanager
    def faulty(self, rate: float) -> Iterator[None]:
        """Let a share of all requests meet a fault inside the block."""
        self.rate = rate
        try:
            yield
        finally:
            self.rate = 0.0

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._answer(reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            writer.transport.abort()  # the server is not there: so is the connection
        finally:
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head, body = await _request(reader, writer)
        fault = self._random.choice(FAULTS) if self._random.random() < self.rate else ""
        self.met[fault] += 1
        if fault == "reset before":
            writer.transport.abort()
            return
        if fault == "503 before":
            writer.write(_refusal("503 Slow Down", "SlowDown"))
            return
        if fault == "latency":
            await asyncio.sleep(self._random.uniform(0.05, 1.0))
        if fault == "upload cut":
            await self._forward(head, body[: len(body) // 2])
            writer.transport.abort()
            return
        answer = await self._forward(head, body)
        if fault == "reset after":
            writer.transport.abort()
        elif fault == "500 after":
            writer.write(_refusal("500 Internal Server Error", "InternalError"))
        elif fault == "answer cut":
            writer.write(answer[: len(answer) * 2 // 3])
            await writer.drain()
            writer.transport.abort()
        else:
            for start in range(0, len(answer), len(answer) // 4 + 1):
                writer.write(answer[start : start + len(answer) // 4 + 1])
                await writer.drain()
                await asyncio.sleep(0.1 if fault == "slow answer" else 0)

    async def _forward(self, head: bytes, body: bytes) -> bytes:
        """Ask the server; an upload that is cut gets no answer."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self._target)
        try:
            writer.write(head + body)
            await writer.drain()
            if writer.can_write_eof():
                writer.write_eof()
            return await reader.read()
        finally:
            writer.close()


async def _request(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> tuple[bytes, bytes]:
    """Head and body; the server is told to close the connection after its answer."""
    first, *lines = (await reader.readuntil(b"\r\n\r\n")).rstrip().split(b"\r\n")
    length, kept = 0, []
    for line in lines:
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            length = int(value)
        if name.lower() == b"expect":
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        elif name.lower() != b"connection":
            kept.append(line)
    head = b"\r\n".join([first, *kept, b"Connection: close", b"", b""])
    return head, await reader.readexactly(length)


def _refusal(status: str, code: str) -> bytes:
    body = _ERROR.format(code=code)
    return (
        f"HTTP/1.1 {status}\r\nContent-Type: application/xml\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n{body}"
    ).encode()
