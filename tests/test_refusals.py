"""A rejection is sent when the body ends, not when its time limit ends."""

import asyncio
import json

import pytest

from limits import Limits


def exchange(parts, path="/v1/models/tiny:predict"):
    """(status, reason) for a request, with limits of 10 bytes and 5 s."""
    messages = [
        {"type": "http.request", "body": part, "more_body": i < len(parts)}
        for i, part in enumerate(parts, 1)
    ]
    sent = []

    async def receive():
        if messages:
            return messages.pop(0)
        # The body has ended, and the client waits for the answer.
        return await asyncio.Event().wait()

    async def send(message):
        sent.append(message)

    limits = Limits(None, requests=1, megabytes=10 / 2**20, seconds=5)
    scope = {"type": "http", "method": "POST", "path": path}
    asyncio.run(asyncio.wait_for(limits(scope, receive, send), 2))
    start, end = sent
    return start["status"], json.loads(end["body"])["error"]


@pytest.mark.parametrize(
    "sizes", [(11,), (5, 6), (11, 0), (5, 6, 50), (11, 100), (0, 11)]
)
def test_a_body_that_is_too_large_is_refused_at_its_end(sizes):
    status, reason = exchange([b"x" * size for size in sizes])
    assert status == 413 and reason == "The body must have at most 10 bytes."


def test_other_refusals_come_at_the_end_of_the_body_too():
    status, _ = exchange([b"x" * 20], "/v2/repository/models/tiny/unload")
    assert status == 403
