"""The server's limits as an ASGI application, without a server."""

import asyncio
import json

import pytest

from limits import Limits

BYTES = 2**20 // 1024  # of the largest body that `limited` accepts
PREDICT = {"type": "http", "method": "POST", "path": "/v1/models/tiny:predict"}
GONE = {"type": "http.disconnect"}


def part(body, more=True):
    return {"type": "http.request", "body": body, "more_body": more}


class App:
    """An application that records each call and answers with status 200."""

    def __init__(self, works=None):
        self.calls = []
        self.works = works  # awaited before the answer

    async def __call__(self, scope, receive, send):
        self.calls.append(await receive())
        if self.works is not None:
            await self.works()
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"{}"})


def limited(app, requests=1, seconds=30.0):
    return Limits(
        app, requests=requests, megabytes=BYTES / 2**20, seconds=seconds
    )


async def ask(application, *messages, scope=PREDICT, stays=False):
    """The messages sent in answer to a client's messages.

    Args:
        stays: whether the client then stays connected without sending.
    """
    waiting, sent = list(messages), []  # messages of the client, messages to it

    async def receive():
        if waiting:
            return waiting.pop(0)
        if stays:
            await asyncio.sleep(2)
        return GONE

    async def send(message):
        sent.append(message)

    async with asyncio.timeout(5):  # far more than any test takes
        await application(scope, receive, send)
    return sent


def status(sent):
    return sent[0]["status"]


def reason(sent):
    headers = dict(sent[0]["headers"])
    assert headers[b"content-length"] == str(len(sent[1]["body"])).encode()
    return json.loads(sent[1]["body"])["error"]


def test_the_application_receives_the_whole_body_at_once():
    app = App()
    sent = asyncio.run(
        ask(limited(app), part(b"ab"), part(b""), part(b"c", more=False))
    )
    assert status(sent) == 200
    assert app.calls == [part(b"abc", more=False)]


def test_the_application_is_told_of_a_disconnect_after_the_body():
    heard = []

    async def app(scope, receive, send):
        heard.extend([await receive(), await receive()])

    asyncio.run(ask(limited(app), part(b"a", more=False)))
    assert heard == [part(b"a", more=False), GONE]


@pytest.mark.parametrize("before", [0, 1, 2])
def test_a_body_cut_short_by_a_disconnect_is_dropped(before):
    app = App()
    application = limited(app, requests=1)

    async def clients():
        cut = await ask(application, *[part(b"{}")] * before, GONE)
        # The only slot for a request is free again.
        return cut, await ask(application, part(b"whole", more=False))

    cut, whole = asyncio.run(clients())
    assert cut == []  # the client has disconnected
    assert app.calls == [part(b"whole", more=False)] and status(whole) == 200


def test_a_body_has_at_most_the_allowed_bytes():
    app = App()
    application = limited(app)

    def answer(*bodies):
        parts = [*map(part, bodies), part(b"", more=False)]
        return asyncio.run(ask(application, *parts))

    assert status(answer(b"a" * BYTES)) == 200
    for bodies in ([b"a" * (BYTES + 1)], [b"a" * BYTES, b"a"]):
        sent = answer(*bodies)
        assert status(sent) == 413
        assert reason(sent) == f"The body must have at most {BYTES} bytes."
    assert len(app.calls) == 1
    assert status(answer(b"a")) == 200  # the slot is free again


def test_little_more_is_read_of_a_rejected_body():
    endless = [part(b"a" * BYTES)] * 100
    read = iter(endless)

    async def receive():
        return next(read)

    sent = []

    async def send(message):
        sent.append(message)

    asyncio.run(limited(App())(PREDICT, receive, send))
    assert status(sent) == 413
    # 2 parts until it is too large, and 5 to exceed 4 times the limit.
    assert len(list(read)) == 100 - 2 - 5


def test_a_body_that_is_late_gets_408():
    app = App()
    application = limited(app, seconds=0.05)
    sent = asyncio.run(ask(application, part(b"{"), stays=True))
    assert status(sent) == 408
    assert reason(sent) == "The body did not arrive in time."
    assert app.calls == []
    sent = asyncio.run(ask(application, part(b"{}", more=False)))
    assert status(sent) == 200  # the slot is free again


def test_more_requests_than_allowed_get_503_and_others_do_not():
    async def clients():
        done = asyncio.Event()
        application = limited(App(works=done.wait), requests=2)
        whole = part(b"{}", more=False)
        working = [
            asyncio.create_task(ask(application, whole)) for _ in range(2)
        ]
        await asyncio.sleep(0)  # the requests start and wait
        refused = await ask(application, whole)
        gone = await ask(application, part(b"{"), GONE)
        done.set()
        health = await ask(
            application, whole, scope={**PREDICT, "method": "GET"}
        )
        working = await asyncio.gather(*working)
        return refused, gone, health, working, await ask(application, whole)

    refused, gone, health, working, later = asyncio.run(clients())
    assert status(refused) == 503
    assert reason(refused) == "2 requests are in progress. Try again."
    assert (b"retry-after", b"1") in refused[0]["headers"]
    assert gone == []
    assert [*map(status, [health, *working, later])] == [200] * 4


def test_an_application_that_fails_frees_its_slot():
    async def fails():
        raise RuntimeError("the application's own")

    app = App(works=fails)
    application = limited(app)
    for _ in range(2):
        with pytest.raises(RuntimeError, match="own"):
            asyncio.run(ask(application, part(b"{}", more=False)))
    assert len(app.calls) == 2


def test_models_are_neither_loaded_nor_unloaded():
    app = App()
    scope = {**PREDICT, "path": "/v2/repository/models/tiny/unload"}
    sent = asyncio.run(ask(limited(app), part(b"", more=False), scope=scope))
    assert status(sent) == 403 and "does not load or unload" in reason(sent)
    assert app.calls == []


@pytest.mark.parametrize(
    "path, body",
    [
        ("/v2/repository/models/tiny/unload", b"{}"),
        (PREDICT["path"], b"a" * (BYTES + 1)),
    ],
)
def test_a_client_that_disconnects_before_the_rejection_gets_no_answer(
    path, body
):
    app = App()
    application = limited(app, requests=1)
    scope = {**PREDICT, "path": path}
    assert asyncio.run(ask(application, part(body), GONE, scope=scope)) == []
    assert app.calls == []
    sent = asyncio.run(ask(application, part(b"{}", more=False)))
    assert status(sent) == 200


def test_requests_without_a_body_are_passed_on_unchanged():
    app = App()
    for scope in ({**PREDICT, "method": "HEAD"}, {"type": "lifespan"}):
        sent = asyncio.run(ask(limited(app), GONE, scope=scope))
        assert status(sent) == 200
    assert app.calls == [GONE, GONE]
