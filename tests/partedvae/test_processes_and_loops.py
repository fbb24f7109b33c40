"""Clients that are pickled, forked, used by several event loops, or beside a busy default executor."""

from __future__ import annotations

import asyncio
import copy
import multiprocessing
import pickle
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest

from partedvae import AsyncClient, Client, InvalidRequestError
from partedvae.results import ImageArray
from tests.bundles import GREY
from tests.partedvae.fake_server import fake_server
from tests.processes import PATIENCE, ServerProcess

IMAGES = GREY.random_images(3)

FORKS = """
import asyncio, multiprocessing, os, sys, threading, warnings
import numpy as np
from partedvae import AsyncClient, Client, PartedVAEError

address, scenario = sys.argv[1:]
images = np.zeros((3, 8, 6, 1), np.uint8)
joins = "joined" in scenario
client, async_client = Client(address, timeout=10, coalesce=joins), AsyncClient(address, timeout=10, coalesce=joins)

def call():
    assert len(client.features(images).u) == 3

def call_async():
    assert len(asyncio.run(async_client.features(images)).u) == 3

def new_client():
    with Client(address, timeout=10) as other:
        assert len(other.features(images).u) == 3

def nested():
    call()
    fork(call)

def refused(reason, use=call):
    try:
        use()
    except PartedVAEError as error:
        assert f"this process was forked while {reason}" in str(error), error
    else:
        raise AssertionError("no error")

def fork(target, crashes=()):
    children = [multiprocessing.get_context("fork").Process(target=target) for _ in range(4)]
    for child in children:
        child.start()
    for child in children:
        child.join(30)
    codes = [child.exitcode for child in children]
    for child in children:
        child.kill()
    assert 0 in codes and set(codes) <= {0, *crashes}, (target, codes)

def busy(work):
    started = threading.Event()
    def loop():
        while True:
            work()
            started.set()
    threading.Thread(target=loop, daemon=True).start()
    assert started.wait(30)

async def warned():
    await async_client.features(images)
    with warnings.catch_warnings(record=True) as caught:
        if not (child := os.fork()):
            os._exit(0)
    os.waitpid(child, 0)
    assert "gRPC ends the child with exit code 64; fork before the first call" in str(caught[0].message), caught
    assert len((await async_client.features(images)).u) == 3

async def connected():
    await async_client.features(images)
    fork(lambda: refused("an AsyncClient was connected"))
    assert len((await async_client.features(images)).u) == 3

if scenario == "idle":
    call()
    for target in (call, new_client, call_async, nested):
        fork(target)
elif scenario == "busy with calls":
    busy(call)
    fork(call)
elif scenario == "busy with joined calls":
    for _ in range(6):
        busy(call)
    # One fork soon after another: gRPC's threads, stopped by the first, must not go on during the second.
    for target in (call, call, call, new_client, nested):
        fork(target)
elif scenario == "within a stream":
    chunks = client.stream_features(images for _ in range(500))
    next(chunks)
    # gRPC says "Other threads are currently calling into gRPC", and may crash the child by itself.
    fork(lambda: refused("a stream was open"), crashes=[-11])
    list(chunks)
    fork(call)
elif scenario == "after asyncio":
    call_async()
    for target in (call, call_async):
        fork(target)
elif scenario == "after closing":
    for target in (new_client, call):
        new_client()
        fork(target)
elif scenario == "within asyncio":
    asyncio.run(connected())
elif scenario == "with a half-read stream":
    chunks = client.stream_features(images for _ in range(500))
    next(chunks)
    fork(lambda: refused("a stream was open", lambda: next(chunks)), crashes=[-11])
    list(chunks)
elif scenario == "after a call, within asyncio":
    call()
    asyncio.run(warned())
if "within asyncio" not in scenario:
    call()
print("done", flush=True)
"""


def features(client: Client) -> int:
    """Return the number of rows; runs in other processes."""
    return len(client.features(IMAGES).u)


def items(source: queue.Queue[ImageArray | None]) -> Iterator[ImageArray]:
    """Yield what is put into a queue, until None."""
    while (images := source.get()) is not None:
        yield images


async def features_of(client: AsyncClient) -> int:
    return len((await client.features(IMAGES)).u)


def test_clients_are_pickled_as_their_arguments(server: ServerProcess) -> None:
    """A copy makes its own connection, whether or not the original has one."""
    with Client(server.address, model="tiny", version=1, timeout=30) as client:
        assert features(client) == 3
        for made in (pickle.loads(pickle.dumps(client)), copy.copy(client), copy.deepcopy(client)):
            with made:
                assert features(made) == 3
        assert features(client) == 3
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            assert pool.map_async(features, [client, client]).get(PATIENCE) == [3, 3]
    again = pickle.loads(pickle.dumps(AsyncClient(server.address, model="tiny", version=9)))
    with pytest.raises(LookupError, match="model 'tiny' has no version 9"):
        asyncio.run(again.features(IMAGES))


def test_a_token_and_connections_are_pickled() -> None:
    with fake_server() as server:
        with pickle.loads(pickle.dumps(Client(server.address, token="mine", connections=2))) as client:
            client.models()
            client.models()
        assert (server.tokens, len(server.peers)) == (["Bearer mine"] * 2, 2)


def test_credentials_of_grpc_cannot_be_pickled() -> None:
    client = Client("here:1", credentials=grpc.ssl_channel_credentials())
    with pytest.raises(InvalidRequestError, match="a client with credentials= cannot be pickled; pass tls, ca, cert"):
        pickle.dumps(client)


@pytest.mark.slow
@pytest.mark.parametrize(
    "scenario",
    [
        *("busy with calls", "within a stream", "after closing", "within asyncio"),
        *(
            pytest.param(scenario, marks=pytest.mark.exhaustive)
            for scenario in (
                *("idle", "busy with joined calls", "with a half-read stream"),
                *("after asyncio", "after a call, within asyncio"),
            )
        ),
    ],
)
def test_forks(server: ServerProcess, tmp_path: Path, scenario: str) -> None:
    """Children make connections of their own, or say why they cannot; the parent goes on."""
    program = tmp_path / "forks.py"
    program.write_text(FORKS)
    command = [sys.executable, str(program), server.address, scenario]
    done = subprocess.run(command, capture_output=True, text=True, timeout=4 * PATIENCE, check=False)
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr


def endless() -> Iterator[ImageArray]:
    while True:
        yield IMAGES


def test_a_client_that_is_closed_during_a_stream_says_so(server: ServerProcess) -> None:
    client = Client(server.address)
    chunks = client.stream_features(endless())
    next(chunks)
    client.close()
    with pytest.raises(InvalidRequestError, match=r"the client of .* was closed during the call; create another one"):
        list(chunks)


async def test_an_async_client_that_is_closed_during_a_stream_does_not_cancel_the_task(server: ServerProcess) -> None:
    client = AsyncClient(server.address)
    chunks = client.stream_features(endless())
    await anext(chunks)
    await client.close()
    with pytest.raises(InvalidRequestError, match=r"the client of .* was closed during the call; create another one"):
        [chunk async for chunk in chunks]


BLOCKED = """
import asyncio, sys, threading
import numpy as np
from partedvae import AsyncClient

def source():
    yield np.zeros((8, 6), np.uint8)
    threading.Event().wait()

async def main():
    stream = AsyncClient(sys.argv[1]).stream_features(source())
    try:
        await asyncio.wait_for(anext(stream), 0.5)
    except TimeoutError:
        print("timed out", flush=True)

asyncio.run(main())
"""


def test_a_program_ends_although_the_source_of_a_stream_blocks(server: ServerProcess) -> None:
    command = [sys.executable, "-c", BLOCKED, server.address]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert (done.returncode, done.stdout) == (0, "timed out\n"), done.stderr


def test_several_event_loops_one_after_another(server: ServerProcess) -> None:
    client = AsyncClient(server.address)

    async def stream() -> int:
        return sum([len(chunk.positions) async for chunk in client.stream_features(IMAGES)])

    assert [asyncio.run(features_of(client)) for _ in range(3)] == [3, 3, 3]
    assert [asyncio.run(stream()) for _ in range(2)] == [3, 3]

    async def within() -> int:
        async with client:
            return await features_of(client)

    assert [asyncio.run(within()) for _ in range(2)] == [3, 3]


def test_several_event_loops_at_once(server: ServerProcess) -> None:
    """Each loop has its own connection, and closing the client in one closes it for all."""
    client = AsyncClient(server.address)
    together = threading.Barrier(3)

    async def several() -> list[int]:
        await asyncio.to_thread(together.wait)
        return [await features_of(client) for _ in range(20)]

    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(lambda _: asyncio.run(several()), range(3))) == [[3] * 20] * 3
    asyncio.run(client.close())
    with pytest.raises(InvalidRequestError, match="is closed"):
        asyncio.run(features_of(client))


def test_sources_that_wait_hold_up_no_other_call(server: ServerProcess) -> None:
    """Neither streams and calls whose sources wait, nor a default executor that is full, delay a call."""
    released = threading.Event()

    async def main() -> None:
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
        blocked = asyncio.create_task(asyncio.to_thread(released.wait))
        sources: list[queue.Queue[ImageArray | None]] = [queue.Queue() for _ in range(80)]
        async with AsyncClient(server.address) as client:

            async def stream(source: queue.Queue[ImageArray | None]) -> int:
                chunks = client.stream_features(items(source))
                return sum([len(chunk.positions) async for chunk in chunks])

            async def call(source: queue.Queue[ImageArray | None]) -> int:
                return len((await client.features(items(source))).u)

            waiting = [asyncio.create_task(stream(source)) for source in sources[:40]]
            waiting += [asyncio.create_task(call(source)) for source in sources[40:]]
            await asyncio.sleep(0)
            assert await asyncio.wait_for(features_of(client), PATIENCE) == 3
            assert not any(task.done() for task in waiting)
            released.set()
            await blocked
            for source in sources:
                source.put(IMAGES)
                source.put(None)
            assert await asyncio.gather(*waiting) == [3] * 80

    asyncio.run(main())
