"""Compute the requests that are waiting in one batch."""

import asyncio
import collections

import numpy as np


class Batcher:
    """Calls a function on the rows of all waiting requests.

    Requests that arrive while one batch is computed form the next batch. A
    single request therefore never waits for others, and batches grow with the
    load. Rows of different shapes, such as images of different sizes, are in
    different batches.

    Args:
        function: maps an array (rows, ...) to a dict of arrays (rows, ...).
        batch_size: maximum number of rows of one call and of one request.
        executor: `concurrent.futures.Executor` that calls the function.
        observe: function that is called with the number of rows of each batch.
    """

    def __init__(self, function, batch_size, executor, observe=lambda n: None):
        self.batch_size = batch_size
        self._function = function
        self._executor = executor
        self._observe = observe
        self._waiting = collections.deque()  # of (rows, future)
        self._worker = None

    async def __call__(self, rows):
        """The results of the function for these rows."""
        future = asyncio.get_running_loop().create_future()
        self._waiting.append((rows, future))
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._work())
        return await future

    async def _work(self):
        loop = asyncio.get_running_loop()
        while requests := self._take():
            try:
                rows = np.concatenate([rows for rows, _ in requests])
                self._observe(len(rows))
                outputs = await loop.run_in_executor(
                    self._executor, self._function, rows
                )
            except Exception as error:
                for _, future in requests:
                    if not future.done():
                        future.set_exception(error)
                continue
            first = 0
            for rows, future in requests:
                part = slice(first, first := first + len(rows))
                if not future.done():  # done if the client disconnected
                    future.set_result({k: v[part] for k, v in outputs.items()})

    def _take(self):
        """Remove and return the next requests that fit into one batch."""
        taken, count = [], 0
        while self._waiting:
            rows, future = self._waiting[0]
            if future.done():
                self._waiting.popleft()
                continue
            if taken and count + len(rows) > self.batch_size:
                break
            if taken and rows.shape[1:] != taken[0][0].shape[1:]:
                break
            taken.append(self._waiting.popleft())
            count += len(rows)
        return taken
