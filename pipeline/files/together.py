"""Many files of one place: while one settles on the disk, the next one is filled.

In:  a way to write a file, which waits until the file is durable.
Out: another one, which leaves the waiting to threads; the block around it waits for all.
Guarantee: an error of any file is raised when the block ends, at the latest. What waits takes no memory: its bytes were
handed to the disk already, or lie there for an upload; at most `MAX_WAITING` files wait.

    with settling_beside(files.write) as write:
        with write("a.arrow") as file: file.write(...)     returns at once
        with write("b.arrow") as file: file.write(...)
    # both are there and durable
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

from pipeline.files.contract import OpenFile, Writing

NUM_THREADS = 4
"""They wait, mostly: one commit of a disk's journal serves all files that wait for one at the same time."""
MAX_WAITING = 16
"""Files for an object store take room on the disk until they are sent."""


@contextmanager
def settling_beside(open_file: OpenFile) -> Iterator[OpenFile]:
    """Give the block a function that writes a file as `open_file` does, and does not wait for its end.

    Raises:
        BuildError: a file cannot be written.
    """
    settling: deque[Future[object]] = deque()
    with ThreadPoolExecutor(NUM_THREADS) as threads:

        @contextmanager
        def write(name: str, *, hashed: bool = False) -> Iterator[Writing]:
            whole = open_file(name, hashed=hashed)
            file = whole.__enter__()
            try:
                yield file
            except BaseException as error:
                whole.__exit__(type(error), error, error.__traceback__)
                raise
            settling.append(threads.submit(whole.__exit__, None, None, None))
            if len(settling) > MAX_WAITING:
                settling.popleft().result()

        yield write
        for each in settling:
            each.result()
