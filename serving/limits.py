"""Limits on the requests of untrusted clients."""

import asyncio
import contextlib
import json


class Limits:
    """ASGI middleware that rejects requests beyond some limits.

    The whole body of a request is read before it is passed on, so bodies take
    at most `requests` times `megabytes` of memory. Parsed from JSON, a body
    takes up to about 20 times its size. If the client disconnects, an
    incomplete body is discarded without an answer.

    Requests for health and metadata have no body and are never rejected.
    Requests to load or unload models, which KServe accepts from every client,
    are always rejected.

    Args:
        app: the ASGI application.
        requests: maximum number of concurrent requests with a body. Further
            ones get status 503.
        megabytes: maximum size of a body, in MiB. Larger ones get status 413.
        seconds: maximum time for a body to arrive. Slower ones get status 408.
    """

    def __init__(self, app, *, requests, megabytes, seconds):
        self._app = app
        self._requests = requests
        self._bytes = int(megabytes * 2**20)
        self._seconds = seconds
        self._running = 0

    async def __call__(self, scope, receive, send):
        with contextlib.suppress(_Disconnected):
            await self._pass_or_refuse(scope, receive, send)

    async def _pass_or_refuse(self, scope, receive, send):
        if scope["type"] != "http" or scope["method"] in ("GET", "HEAD"):
            await self._app(scope, receive, send)
        elif scope["path"].startswith("/v2/repository"):
            reason = "This server does not load or unload models by request."
            await self._refuse(_parts(receive), send, 403, reason)
        elif self._running >= self._requests:
            reason = f"{self._requests} requests are in progress. Try again."
            await self._refuse(
                _parts(receive), send, 503, reason, (b"retry-after", b"1")
            )
        else:
            self._running += 1
            try:
                await self._limited(scope, receive, send)
            finally:
                self._running -= 1

    async def _limited(self, scope, receive, send):
        parts = _parts(receive)
        try:
            async with asyncio.timeout(self._seconds):
                body = await self._read(parts)
        except TimeoutError:
            await _answer(send, 408, "The body did not arrive in time.")
            return
        if body is None:
            most = f"The body must have at most {self._bytes} bytes."
            # Pass on the same iterator: a new one would wait forever if the
            # last part has already been read.
            await self._refuse(parts, send, 413, most)
            return
        rest = [{"type": "http.request", "body": body, "more_body": False}]

        async def replay():
            return rest.pop() if rest else await receive()

        await self._app(scope, replay, send)

    async def _read(self, parts):
        """Read the whole body. Returns None if it is too large."""
        body = bytearray()
        async for part in parts:
            body += part
            if len(body) > self._bytes:
                return None
        return bytes(body)

    async def _refuse(self, parts, send, status, reason, *headers):
        """Send an error, after reading the rest of the body.

        Clients expect the answer after they have sent the body. Reading stops
        at a limit of size or time.
        """
        read = 0
        try:
            async with asyncio.timeout(self._seconds):
                async for part in parts:
                    read += len(part)
                    if read > _REFUSED * self._bytes:
                        break
        except TimeoutError:
            pass
        await _answer(send, status, reason, *headers)


# At most this many times the largest allowed body is read of a rejected one.
_REFUSED = 4


class _Disconnected(Exception):
    """The client disconnected before the end of its body."""


async def _parts(receive):
    """Yield the parts of a body.

    Raises:
        _Disconnected: if the client disconnects before the end.
    """
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _Disconnected
        more = message.get("more_body", False)
        yield message.get("body", b"")


async def _answer(send, status, reason, *headers):
    body = json.dumps({"error": reason}).encode()
    length = str(len(body)).encode()
    await send(
        {
            "type": "http.response.start",
            "status": status,
            "headers": [
                (b"content-type", b"application/json"),
                (b"content-length", length),
                # Close, so that the unread rest of the body is not parsed as
                # the next request.
                (b"connection", b"close"),
                *headers,
            ],
        }
    )
    await send({"type": "http.response.body", "body": body})
