"""How much a stranger may ask of the server."""

import asyncio
import contextlib
import json


class Limits:
    """An ASGI application around another one that refuses what is too much.

    A request with a body is read whole before it is passed on: at most
    `requests` times `megabytes` of them wait. A body that a disconnect cuts
    short is dropped, without an answer. As Python numbers a body of JSON
    takes up to some twenty times as much. Health and metadata have
    no body and are never refused. Loading and unloading models by HTTP, which
    KServe offers to anyone who reaches the port, is.

    Args:
        app: the ASGI application.
        requests: requests with a body at one time; more get 503.
        megabytes: size of a body; more gets 413.
        seconds: for a body to arrive; later gets 408.
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
            reason = "Models are not loaded by request here."
            await self._refuse(_parts(receive), send, 403, reason)
        elif self._running >= self._requests:
            reason = f"{self._requests} requests are at work. Try again."
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
            # The rest of the same parts: after the last one none would come.
            await self._refuse(parts, send, 413, most)
            return
        rest = [{"type": "http.request", "body": body, "more_body": False}]

        async def replay():
            return rest.pop() if rest else await receive()

        await self._app(scope, replay, send)

    async def _read(self, parts):
        """The whole body, or None if it is too large."""
        body = bytearray()
        async for part in parts:
            body += part
            if len(body) > self._bytes:
                return None
        return bytes(body)

    async def _refuse(self, parts, send, status, reason, *headers):
        """Answer once the body is sent, as clients expect, if it soon is."""
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


# Of the largest allowed body: what is read, and dropped, of a refused one.
_REFUSED = 4


class _Disconnected(Exception):
    """The client is gone before the end of its body."""


async def _parts(receive):
    """The parts of a body until it ends.

    Raises:
        _Disconnected: if the client goes before.
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
                # What was not read of the body must not pass for a request.
                (b"connection", b"close"),
                *headers,
            ],
        }
    )
    await send({"type": "http.response.body", "body": body})
