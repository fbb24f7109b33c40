"""Concurrent calls that share messages: each gets its own result or error, as if it had been sent by itself."""

from __future__ import annotations

import asyncio
import copy
import io
import itertools
import pickle
import re
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from PIL import Image

from partedvae import (
    AsyncClient,
    Client,
    DeadlineError,
    Features,
    InternalError,
    InvalidRequestError,
    OverloadedError,
    UnavailableError,
    UnfamiliarImageWarning,
)
from partedvae.coalescing import CALL_IMAGES, IN_FLIGHT, MESSAGE_IMAGES
from partedvae.requests import FeatureName
from partedvae.results import ImageArray
from partedvae.v1 import service_pb2 as pb
from partedvae.v1.tensors_pb2 import FloatTensor
from tests.bundles import COLOURED, GREY
from tests.partedvae.fake_server import FakeServer, Refusal, fake_server
from tests.processes import ServerProcess

WINDOW = 500.0
"""Milliseconds in which all callers of a test have called."""
POISON = 255
"""First pixel of an image that a fake server does not answer."""

Together = Callable[..., list[Any]]
"""together(address, method, [arguments of each call], coalesce=…) returns the result or the exception of each."""


def with_threads(address: str, method: str, calls: Sequence[tuple[Any, ...]], **settings: Any) -> list[Any]:
    outcomes: list[Any] = [None] * len(calls)
    barrier = threading.Barrier(len(calls))
    options = settings.pop("options", {})

    def work(index: int) -> None:
        barrier.wait()
        try:
            outcomes[index] = getattr(client, method)(*calls[index], **options)
        except Exception as error:
            outcomes[index] = error

    with Client(address, **settings) as client:
        threads = [threading.Thread(target=work, args=[index]) for index in range(len(calls))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    return outcomes


def with_tasks(address: str, method: str, calls: Sequence[tuple[Any, ...]], **settings: Any) -> list[Any]:
    options = settings.pop("options", {})

    async def run() -> list[Any]:
        async with AsyncClient(address, **settings) as client:
            tasks = [getattr(client, method)(*arguments, **options) for arguments in calls]
            return await asyncio.gather(*tasks, return_exceptions=True)

    return asyncio.run(run())


@pytest.fixture(params=[with_threads, with_tasks], ids=["threads", "tasks"])
def together(request: pytest.FixtureRequest) -> Together:
    """Return a function that makes calls of one client at the same time, for each client."""
    chosen: Together = request.param
    return chosen


def pixels_of(request: pb.ExtractFeaturesRequest) -> ImageArray:
    packed = request.images.packed
    return np.frombuffer(packed.data, np.uint8).reshape(tuple(packed.shape))


@contextmanager
def echoing(*refusals: Refusal, threads: int = 8, **fields: Any) -> Iterator[tuple[FakeServer, list[Any]]]:
    """Serve features whose `z` is the first pixel of each image; also return the requests, in order of arrival."""
    requests: list[pb.ExtractFeaturesRequest] = []

    def reply(message: bytes, context: Any) -> bytes:
        request = pb.ExtractFeaturesRequest.FromString(message)
        requests.append(request)
        if "answer" in fields:
            fields["answer"].wait(60)
        first = pixels_of(request).reshape(request.images.packed.shape[0], -1)[:, :1].astype("<f4")
        if POISON in first and (refusal := fields.get("poison")):
            context.abort(*refusal)
        rows = first[: fields.get("most_rows", len(first))]
        z = FloatTensor(shape=rows.shape, data=rows.tobytes())
        return pb.ExtractFeaturesResponse(model=pb.ModelVersion(name="fake", version=1), z_mean=z).SerializeToString()

    with fake_server(*refusals, threads=threads) as server:
        server.reply = reply
        server.delay = fields.get("delay", 0.0)
        yield server, requests


def numbered(*numbers: int) -> list[tuple[ImageArray]]:
    """Return the argument of one call per number, an image of that grey level."""
    return [(np.full((1, 4, 4), number, np.uint8),) for number in numbers]


def z_of(features: Features) -> list[list[float]]:
    assert features.z is not None
    rows: list[list[float]] = features.z.tolist()
    return rows


def png(pixels: ImageArray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="PNG")
    return file.getvalue()


def assert_same(shared: Features, alone: Features) -> None:
    """Compare every field, its type, and its values within 1e-6."""
    assert type(shared) is Features
    assert (shared.model, shared.version) == (alone.model, alone.version)
    arrays = [(shared, alone, ("z", "z_logvar", "reconstruction_error", "negative_elbo", "unfamiliar"))]
    for mine, theirs in zip(shared.factors, alone.factors, strict=True):
        assert (mine.name, mine.class_names) == (theirs.name, theirs.class_names)
        arrays.append((mine, theirs, ("probs", "u_mean", "u_logvar")))  # type: ignore[arg-type]  # also a result
    for left, right, names in arrays:
        for name in names:
            mine, theirs = getattr(left, name), getattr(right, name)
            if theirs is None:
                assert mine is None, name
            elif theirs.dtype == np.float32:
                assert mine.dtype == np.float32
                np.testing.assert_allclose(mine, theirs, rtol=1e-6, atol=1e-6, err_msg=name)
                assert mine.base is None  # Not a part of the response to all callers.
                assert mine.flags.writeable
            else:
                assert mine.dtype == theirs.dtype
                assert mine.tolist() == theirs.tolist()


INCLUDE = ["probs", "u_mean", "u_logvar", "z_mean", "z_logvar", "reconstruction_error", "negative_elbo"]


@pytest.mark.parametrize("coalesce", [True, WINDOW], ids=["at-once", "window"])
@pytest.mark.parametrize(
    "include",
    [*(pytest.param(few, marks=pytest.mark.exhaustive) for few in (["probs", "u_mean"], ["z_mean"])), INCLUDE],
    ids=len,
)
def test_every_caller_gets_its_own_features(
    together: Together, server: ServerProcess, coalesce: Any, include: list[str]
) -> None:
    """Calls of one to four images, as arrays with and without channels and as lists."""
    images = GREY.random_images(100)
    forms: list[Any] = [
        images[:1],
        images[1, ..., 0],
        images[2:4],
        images[4:7, ..., 0],
        list(images[7:11]),
        images[11:12],
    ]
    forms += [images[k : k + 1 + k % 4] for k in range(12, 60)]
    with Client(server.address) as client:
        expected = [client.features(form, include=include) for form in forms]  # type: ignore[arg-type]  # names
    results = together(
        server.address, "features", [(form,) for form in forms], coalesce=coalesce, options={"include": include}
    )
    for result, alone in zip(results, expected, strict=True):
        assert_same(result, alone)


@pytest.mark.parametrize("method", ["classify", "reconstruct"])
def test_every_caller_gets_its_own_classes_and_images(
    together: Together, two_model_server: ServerProcess, method: str
) -> None:
    """180 images exceed the server's limit of 100 per request, so that there are several messages."""
    images = COLOURED.random_images(180)
    calls = [(images[k : k + 3],) for k in range(0, 180, 3)]
    settings = {"model": "shapes", "version": 1}
    with Client(two_model_server.address, **settings) as client:  # type: ignore[arg-type]  # one dict of all types
        expected = [getattr(client, method)(*arguments) for arguments in calls]
    results = together(two_model_server.address, method, calls, coalesce=WINDOW, **settings)
    for result, alone in zip(results, expected, strict=True):
        if method == "classify":
            assert_same(result, alone)
        else:
            assert result.dtype == np.uint8
            assert result.base is None
            np.testing.assert_array_equal(result, alone)


def test_files_share_messages_whatever_their_size(together: Together, server: ServerProcess, tmp_path: Path) -> None:
    """Paths, contents of files and Pillow images beside arrays of two shapes."""
    array = GREY.random_images(6)[..., 0]
    large = np.random.default_rng(1).integers(0, 256, (40, 30, 3), dtype=np.uint8)
    path = tmp_path / "large.png"
    path.write_bytes(png(large))
    forms: list[Any] = [
        png(array[0]),
        path,
        Image.fromarray(array[1]),
        array[2:3],
        large[None],
        [png(large), png(array[3])],
    ]
    with Client(server.address) as client:
        expected = [client.features(form, include=["u_mean"]) for form in forms]
    results = together(
        server.address, "features", [(f,) for f in forms] * 4, coalesce=WINDOW, options={"include": ["u_mean"]}
    )
    for result, alone in zip(results, expected * 4, strict=True):
        assert_same(result, alone)


def test_what_shares_a_message(together: Together) -> None:
    """Small calls with the same options and images of one shape; a large call is sent as it would be alone."""
    small = [(np.full((2, 4, 4), number, np.uint8),) for number in range(10)]
    small += [(np.full((2, 4, 4, 1), number, np.uint8),) for number in range(10, 20)]
    other_shape = [(np.full((1, 5, 4), number, np.uint8),) for number in range(20, 25)]
    large = [(np.full((CALL_IMAGES + 1, 4, 4), 77, np.uint8),)]
    with echoing() as (server, requests):
        results = together(server.address, "features", small + other_shape + large, coalesce=WINDOW)
    counts = sorted(request.images.packed.shape[0] for request in requests)
    assert counts == [5, 40, CALL_IMAGES + 1]
    for (images,), result in zip(small + other_shape + large, results, strict=True):
        assert result.z.tolist() == [[float(images.flat[0])]] * len(images)


def test_other_options_are_other_messages() -> None:
    """The order of the outputs does not matter."""

    async def run() -> list[Any]:
        async with AsyncClient(server.address, coalesce=WINDOW) as client:
            image = numbered(1)[0][0]
            several: list[list[FeatureName]] = [
                ["z_mean"],
                ["probs"],
                ["u_mean", "probs"],
                ["probs", "u_mean"],
                ["probs"],
            ]
            return await asyncio.gather(*(client.features(image, include=include) for include in several))

    with echoing() as (server, requests):
        asyncio.run(run())
    assert sorted((sorted(request.include), request.images.packed.shape[0]) for request in requests) == [
        ([pb.FEATURE_OUTPUT_PROBS], 2),
        ([pb.FEATURE_OUTPUT_PROBS, pb.FEATURE_OUTPUT_U_MEAN], 2),
        ([pb.FEATURE_OUTPUT_Z_MEAN], 1),
    ]


def test_calls_with_other_tokens_are_other_messages(together: Together) -> None:
    """A token function may name the caller: no call is sent with the token of another one."""
    tokens = itertools.cycle(["first", "second"])
    lock, used = threading.Lock(), list[str]()

    def token() -> str:
        with lock:
            used.append(next(tokens))
            return used[-1]

    with echoing() as (server, requests):
        results = together(server.address, "features", numbered(*range(12)), coalesce=WINDOW, token=token)
        sent = server.tokens
    assert [result.z.shape for result in results] == [(1, 1)] * 12
    assert sorted(sent) == ["Bearer first", "Bearer second"]
    assert sum(request.images.packed.shape[0] for request in requests) == 12


def test_no_call_waits_by_default(together: Together) -> None:
    """Without coalesce there is one message per call."""
    with echoing() as (server, requests):
        together(server.address, "features", numbered(*range(12)))
    assert [request.images.packed.shape[0] for request in requests] == [1] * 12


def test_calls_wait_only_while_others_are_in_flight(together: Together) -> None:
    """With True, a lone call is sent at once, and later ones together when the server is busy."""
    with echoing(delay=0.2) as (server, requests):
        results = together(server.address, "features", numbered(*range(40)), coalesce=True)
    assert [result.z.tolist() for result in results] == [[[float(number)]] for number in range(40)]
    assert len(requests) <= IN_FLIGHT + 20
    assert max(request.images.packed.shape[0] for request in requests) >= 10


def test_a_message_has_a_largest_size(together: Together) -> None:
    calls = [(np.full((CALL_IMAGES, 4, 4), number, np.uint8),) for number in range(6)]
    with echoing() as (server, requests):
        results = together(server.address, "features", calls, coalesce=WINDOW)
    assert sorted(request.images.packed.shape[0] for request in requests) == [2 * CALL_IMAGES, MESSAGE_IMAGES]
    assert [result.z[0, 0] for result in results] == list(range(6))


def test_only_the_caller_of_a_damaged_file_fails(together: Together, server: ServerProcess, tmp_path: Path) -> None:
    """With the error that it gets alone, which names its own image and file; the others get their results."""
    image = GREY.random_images(1)[0, ..., 0]
    path = tmp_path / "cut.png"
    path.write_bytes(png(image)[:60])
    forms: list[Any] = [png(image) for _ in range(10)]
    forms[3] = [png(image), png(image)[:60]]
    forms[6] = path
    expected = []
    with Client(server.address) as client:
        good = client.features(png(image))
        for bad in (forms[3], forms[6]):
            with pytest.raises(InvalidRequestError) as caught:
                client.features(bad)
            expected.append(str(caught.value))
    assert expected[0].startswith("image 1: ")
    assert expected[1].startswith(f"image 0 ({path}): ")
    results = together(server.address, "features", [(form,) for form in forms], coalesce=WINDOW)
    assert [type(result) for result in (results[3], results[6])] == [InvalidRequestError] * 2
    assert [str(result) for result in (results[3], results[6])] == expected
    for index in set(range(10)) - {3, 6}:
        assert_same(results[index], good)


def test_images_that_the_client_refuses_fail_their_caller_alone(
    together: Together, server: ServerProcess, tmp_path: Path
) -> None:
    images = GREY.random_images(3)
    forms = [images[:1], np.zeros((1, 8, 6, 2), np.uint8), tmp_path / "none.png", images[1:2] / 2, images[2:3], []]
    results = together(server.address, "features", [(form,) for form in forms], coalesce=WINDOW)
    assert [type(result) for result in results] == [
        Features,
        InvalidRequestError,
        FileNotFoundError,
        InvalidRequestError,
        Features,
        InvalidRequestError,
    ]
    assert "has 2 channels" in str(results[1])
    assert "is float64, images are uint8" in str(results[3])


FAILURE = (grpc.StatusCode.INTERNAL, "see the log")
LOST = (grpc.StatusCode.UNAVAILABLE, "the worker has crashed")
TOO_LARGE = (grpc.StatusCode.INVALID_ARGUMENT, "something is too large")


@pytest.mark.parametrize(
    ("poison", "error"),
    [(FAILURE, InternalError), (LOST, UnavailableError), (TOO_LARGE, InvalidRequestError)],
    ids=["bug", "crash", "unnamed"],
)
def test_an_image_that_breaks_the_server_fails_its_caller_alone(
    together: Together, poison: Any, error: type[Exception]
) -> None:
    """Also where the server does not say which image it was, or is lost each time that it gets it."""
    with echoing(poison=poison) as (server, _):
        results = together(server.address, "features", numbered(1, 2, 3, POISON, 5, 6, 7, 8), coalesce=WINDOW)
    assert type(results.pop(3)) is error
    assert [result.z.tolist() for result in results] == [[[float(number)]] for number in (1, 2, 3, 5, 6, 7, 8)]


def test_each_of_many_damaged_files_fails_its_own_caller(together: Together, server: ServerProcess) -> None:
    """Also where more files are damaged than messages are joined again."""
    image = GREY.random_images(1)[0, ..., 0]
    forms = [png(image), png(image)[:60]] * 10
    results = together(server.address, "features", [(form,) for form in forms], coalesce=WINDOW)
    assert [type(result) for result in results] == [Features, InvalidRequestError] * 10
    assert {re.sub(r":.*", "", str(result)) for result in results[1::2]} == {"image 0"}


def test_a_response_without_a_row_per_image_is_not_divided(together: Together) -> None:
    """The calls are sent again by themselves."""
    with echoing(most_rows=1) as (server, requests):
        results = together(server.address, "features", numbered(1, 2, 3), coalesce=WINDOW)
    assert [result.z.tolist() for result in results] == [[[1.0]], [[2.0]], [[3.0]]]
    assert sorted(request.images.packed.shape[0] for request in requests) == [1, 1, 1, 3]


@pytest.mark.parametrize(
    "code",
    [grpc.StatusCode.RESOURCE_EXHAUSTED, pytest.param(grpc.StatusCode.UNAVAILABLE, marks=pytest.mark.exhaustive)],
)
def test_refused_messages_are_sent_again(together: Together, code: grpc.StatusCode) -> None:
    """After the server's time, which no caller has to know."""
    with echoing(*[(code, "busy", 50)] * 2) as (server, _):
        results = together(server.address, "features", numbered(1, 2, 3), coalesce=WINDOW)
        assert server.times[1] - server.times[0] >= 0.05
    assert [result.z.tolist() for result in results] == [[[1.0]], [[2.0]], [[3.0]]]


def test_lasting_overload_is_an_error_of_each_caller(together: Together) -> None:
    """Each has its own exception, with what it has waited."""
    with echoing(*[(grpc.StatusCode.RESOURCE_EXHAUSTED, "full", 100)] * 99) as (server, _):
        results = together(server.address, "features", numbered(1, 2, 3), coalesce=10, timeout=1.0)
    assert [type(result) for result in results] == [OverloadedError] * 3
    assert len(set(map(id, results))) == 3
    for result in results:
        assert str(result).startswith("full (the server asks to wait for 0.1 s; raise timeout= to allow it; refused ")


def test_a_server_that_is_not_there(together: Together) -> None:
    with fake_server() as server:
        address = server.address
    results = together(address, "features", numbered(1, 2, 3), coalesce=True, timeout=5.0)
    assert [type(result) for result in results] == [UnavailableError] * 3
    assert {str(result).startswith(f"no server answers at {address}") for result in results} == {True}


async def test_each_task_has_its_own_timeout() -> None:
    """The first caller of a message fails at its own deadline; the second, which called later, gets its result."""
    answer = threading.Event()
    with echoing(answer=answer) as (server, requests):
        async with AsyncClient(server.address, coalesce=2000, timeout=3.0) as client:
            await client.model_info()
            first = asyncio.create_task(client.features(numbered(1)[0][0]))
            await asyncio.sleep(1.5)
            second = asyncio.create_task(client.features(numbered(2)[0][0]))
            with pytest.raises(DeadlineError, match="did not answer in time; try again with a longer timeout="):
                await first
            answer.set()
            assert z_of(await second) == [[2.0]]
    assert [request.images.packed.shape[0] for request in requests] == [2]


def test_each_thread_has_its_own_timeout() -> None:
    """As for tasks."""
    answer, results = threading.Event(), list[Any]()

    def call_first() -> None:
        with pytest.raises(DeadlineError, match="did not answer in time; try again with a longer timeout="):
            client.features(numbered(1)[0][0])
        answer.set()

    def call_second() -> None:
        results.append(z_of(client.features(numbered(2)[0][0])))

    with echoing(answer=answer) as (server, requests), Client(server.address, coalesce=2000, timeout=3.0) as client:
        client.model_info()
        first, second = threading.Thread(target=call_first), threading.Thread(target=call_second)
        first.start()
        first.join(1.5)
        second.start()
        first.join()
        second.join()
    assert results == [[[2.0]]]
    assert [request.images.packed.shape[0] for request in requests] == [2]


@pytest.mark.parametrize("sent", [False, True], ids=["while-waiting", "in-flight"])
async def test_a_cancelled_caller_does_not_cancel_the_others(sent: bool) -> None:
    answer = threading.Event()
    with echoing(answer=answer) as (server, requests):
        async with AsyncClient(server.address, coalesce=WINDOW) as client:
            await client.model_info()
            tasks = [asyncio.create_task(client.features(image)) for (image,) in numbered(1, 2, 3)]
            await asyncio.sleep(0.01)
            while sent and not requests:
                await asyncio.sleep(0.01)
            tasks[0].cancel()
            answer.set()
            cancelled, *others = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(cancelled, asyncio.CancelledError)
    assert [z_of(result) for result in others if isinstance(result, Features)] == [[[2.0]], [[3.0]]]
    assert [request.images.packed.shape[0] for request in requests] == [3 if sent else 2]


async def test_a_message_without_callers_is_cancelled() -> None:
    """The server sees the cancellation, and can stop."""
    cancelled = threading.Event()

    def reply(_request: bytes, context: Any) -> bytes:
        context.add_callback(cancelled.set)
        started.set()
        cancelled.wait(30)
        return b""

    started = threading.Event()
    with fake_server() as server:
        server.reply = reply
        async with AsyncClient(server.address, coalesce=10) as client:
            await client.model_info()
            tasks = [asyncio.create_task(client.features(image)) for (image,) in numbered(1, 2)]
            assert await asyncio.to_thread(started.wait, 30)
            for task in tasks:
                task.cancel()
            assert await asyncio.to_thread(cancelled.wait, 30)
            results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(result) for result in results] == [asyncio.CancelledError] * 2


@pytest.mark.parametrize("window", [10_000, 10], ids=["while-waiting", "in-flight"])
async def test_closing_fails_the_calls_of_tasks(window: float) -> None:
    with echoing(delay=1.0) as (server, _):
        client = AsyncClient(server.address, coalesce=window)
        await client.model_info()
        tasks = [asyncio.create_task(client.features(image)) for (image,) in numbered(1, 2)]
        await asyncio.sleep(0.5)
        await client.close()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(result) for result in results] == [InvalidRequestError] * 2
        assert str(results[0]) == f"the client of {server.address} was closed during the call; create another one"
        with pytest.raises(InvalidRequestError, match="is closed; create another one"):
            await client.features(numbered(1)[0][0])


@pytest.mark.parametrize("window", [10_000, 10], ids=["while-waiting", "in-flight"])
def test_closing_fails_the_calls_of_threads(window: float) -> None:
    errors: list[str] = []

    def work(number: int) -> None:
        with pytest.raises(InvalidRequestError) as caught:
            client.features(numbered(number)[0][0])
        errors.append(str(caught.value))

    with echoing(delay=1.0) as (server, _):
        client = Client(server.address, coalesce=window)
        client.model_info()
        threads = [threading.Thread(target=work, args=[number]) for number in (1, 2)]
        for thread in threads:
            thread.start()
        threads[0].join(0.5)
        client.close()
        for thread in threads:
            thread.join()
        assert errors == [f"the client of {server.address} was closed during the call; create another one"] * 2
        with pytest.raises(InvalidRequestError, match="is closed; create another one"):
            client.features(numbered(1)[0][0])


def test_copies_join_calls_too() -> None:
    """A client that is pickled or copied has its own connection, and its own waiting calls."""
    with echoing() as (server, requests), Client(server.address, coalesce=WINDOW) as client:
        for made in (pickle.loads(pickle.dumps(client)), copy.copy(client), copy.deepcopy(client)):
            requests.clear()
            with made:
                threads = [threading.Thread(target=made.features, args=arguments) for arguments in numbered(1, 2, 3)]
                for thread in threads:
                    thread.start()
                for thread in threads:
                    thread.join()
            assert [request.images.packed.shape[0] for request in requests] == [3]


def test_event_loops_do_not_share_messages() -> None:
    """A client that is used in several event loops joins the calls of each."""
    barrier = threading.Barrier(3)

    async def run() -> None:
        barrier.wait()
        await asyncio.gather(*(client.features(image) for (image,) in numbered(1, 2, 3, 4)))

    with echoing() as (server, requests):
        client = AsyncClient(server.address, coalesce=WINDOW)
        threads = [threading.Thread(target=asyncio.run, args=[run()]) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert [request.images.packed.shape[0] for request in requests] == [4, 4, 4]


def test_generated_images_are_those_of_their_seed(together: Together, server: ServerProcess) -> None:
    """They are not joined: the images of a seed depend on their number."""
    with Client(server.address) as client:
        expected = [client.generate(2, seed=seed) for seed in range(6)]
    results = together(server.address, "generate", [(2,)] * 6, coalesce=True, options={"seed": 4})
    for result in results:
        assert result.seed == 4
        np.testing.assert_array_equal(result.images, expected[4].images)


async def test_a_warning_is_that_of_its_caller(two_models: Path, two_model_server: ServerProcess) -> None:
    """The numbers in the warning are those of the caller's own images."""
    images = COLOURED.random_images(4)
    async with AsyncClient(two_model_server.address, model="shapes", coalesce=WINDOW) as client:
        details = await client.model_info()
        scores = (await client.features(images, include=["negative_elbo"])).negative_elbo
        assert scores is not None
        details.manifest.familiar_negative_elbo = float(np.sort(scores)[2] + np.sort(scores)[3]) / 2
        client._known = (float("inf"), details)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            await asyncio.gather(*(client.features(images[k : k + 1], include=["negative_elbo"]) for k in range(4)))
    assert [str(each.message).partition(",")[0] for each in caught] == ["1 of 1 images are unlike the training images"]
    assert [each.category for each in caught] == [UnfamiliarImageWarning]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("yes", "coalesce is 'yes'; it must be True, False, or a number of milliseconds"),
        (None, "coalesce is None; it must be True, False, or a number of milliseconds"),
        (0, "coalesce is 0; it must be more than 0 milliseconds, and finite"),
        (-1.5, "coalesce is -1.5; it must be more than 0 milliseconds, and finite"),
        (float("nan"), "coalesce is nan; it must be more than 0 milliseconds, and finite"),
        (
            5000,
            "coalesce is 5000 milliseconds, not less than the timeout of 5.0 s; calls would end before they are sent",
        ),
    ],
)
@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_arguments(kind: type[Client | AsyncClient], value: Any, message: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        kind("127.0.0.1:1", timeout=5.0, coalesce=value)
    assert str(caught.value) == message


def test_numbers_of_numpy(together: Together, server: ServerProcess) -> None:
    """A waiting time and a timeout that are computed with NumPy are numbers like others."""
    images = GREY.random_images(6)
    times = {"coalesce": np.float32(WINDOW), "timeout": np.float32(60)}
    results = together(server.address, "features", [(images[k : k + 1],) for k in range(6)], **times)
    with Client(server.address) as client:
        expected = [client.features(images[k : k + 1]) for k in range(6)]
    for result, alone in zip(results, expected, strict=True):
        assert_same(result, alone)
