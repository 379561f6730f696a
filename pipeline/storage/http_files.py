"""Web servers as a read-only file system: with and without lengths, ranges and compression.

The file system of fsspec takes every failed answer for a missing file, and trusts lengths that a
server gives for a compressed body. Here one request of one byte tells what a server can do.
"""

from __future__ import annotations

from typing import Any, BinaryIO

import aiohttp
from fsspec.asyn import sync
from fsspec.implementations.http import HTTPFileSystem

CHUNK_BYTES = 1 << 20
_AS_IT_IS = {"Accept-Encoding": "identity"}


class HttpFiles(HTTPFileSystem):
    """The web file system of fsspec, which tells errors apart and needs no lengths."""

    def __init__(self, **options: Any) -> None:
        """Prepare; this sends no request. A long file may take its time, a silent server not."""
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=60)
        super().__init__(**{"client_kwargs": {"timeout": timeout}, **options})

    async def _info(self, url: str, **kwargs: Any) -> dict[str, Any]:
        """Size of a file; None if the server gives no ranges of it and so no true size."""
        session = await self.set_session()
        headers = {"Range": "bytes=0-0", **_AS_IT_IS}
        size: int | None = None
        async with session.get(self.encode_url(url), headers=headers) as answer:
            if answer.status == 416:  # there is no first byte
                size = 0
            else:
                self._raise_not_found_for_status(answer, url)
                total = answer.headers.get("Content-Range", "").rpartition("/")[2]
                plain = answer.headers.get("Content-Encoding", "identity") == "identity"
                if answer.status == 206 and plain and total.isdigit():
                    size = int(total)
        return {"name": url, "size": size, "type": "file"}

    async def _cat_file(
        self, url: str, start: int | None = None, end: int | None = None, **kwargs: Any
    ) -> bytes:
        """The bytes of a file, or those of a range of it."""
        if start is not None and start == end:
            return b""
        headers = dict(_AS_IT_IS)
        if start is not None or end is not None:
            headers["Range"] = await self._process_limits(url, start, end)
        session = await self.set_session()
        async with session.get(self.encode_url(url), headers=headers) as answer:
            self._raise_not_found_for_status(answer, url)
            if "Range" in headers and answer.status != 206:
                raise OSError("the server gives no ranges any more")
            data: bytes = await answer.read()
            return data

    def fetch(self, url: str, out: BinaryIO, limit: int | None = None) -> bool:
        """Write a whole file to `out` from its beginning; stop after more than `limit` bytes.

        Returns:
            Whether it is no longer than `limit`.
        """
        return bool(sync(self.loop, self._fetch, url, out, limit))

    async def _fetch(self, url: str, out: BinaryIO, limit: int | None) -> bool:
        out.seek(0)
        out.truncate()
        session = await self.set_session()
        async with session.get(self.encode_url(url), headers=_AS_IT_IS) as answer:
            self._raise_not_found_for_status(answer, url)
            async for chunk in answer.content.iter_chunked(CHUNK_BYTES):
                out.write(chunk)
                if limit is not None and out.tell() > limit:
                    return False
        return True

    def _raise_not_found_for_status(self, response: Any, url: str) -> None:
        if response.status in (404, 410):
            raise FileNotFoundError(url)
        response.raise_for_status()
