"""What keeps a build alive, and alone, on a store that fails and has no locks; without a store and without waiting."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from typing import Any

import orjson
import pytest

import pipeline.files.lease as lease
from curriculum.errors import BuildError
from pipeline.files.failures import passes
from pipeline.files.lease import LEASE_NAME, Pace, acquire, leased, renew, require_held
from pipeline.files.retries import Patience, persist
from pipeline.files.storage_options import parse_storage_options
from still_clock import StillClock


def answered(code: str, status: int, kind: type[Exception] = OSError) -> Exception:
    """An error as s3fs raises it, with botocore's as the cause."""

    class ClientError(Exception):
        response = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}  # noqa: RUF012

    error = kind(f"{code} of the store")
    error.__cause__ = ClientError(code)
    return error


def failing(*errors: Exception) -> Callable[[], str]:
    left = list(errors)

    def attempt() -> str:
        if left:
            raise left.pop(0)
        return "done"

    return attempt


def test_throttling_and_dropped_connections_are_waited_for_with_growing_pauses() -> None:
    """Pauses double and are shortened by at most a half: workers do not come back all at once."""
    errors = [answered("SlowDown", 503), ConnectionResetError("reset"), TimeoutError(), answered("InternalError", 500)]
    time = StillClock()
    patience = Patience(seconds=60, clock=time.clock, sleep=time.sleep)
    assert persist(failing(*errors, *errors, *errors), "s3://b/x", "read", patience=patience) == "done"
    longest = [0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10, 10, 10, 10, 10, 10]
    assert len(time.pauses) == 12
    assert all(most / 2 <= pause <= most for pause, most in zip(time.pauses, longest, strict=True))


def test_a_store_that_does_not_recover_ends_the_build_after_its_patience() -> None:
    time = StillClock()
    patience = Patience(seconds=60, clock=time.clock, sleep=time.sleep)
    with pytest.raises(BuildError, match=r"^s3://b/x: cannot be written: tried for (6\d|70) s, .*ConnectionResetError"):
        persist(failing(*[ConnectionResetError("reset")] * 99), "s3://b/x", "written", patience=patience)
    assert 60 <= time.now < 71


FINAL = [
    (answered("AccessDenied", 403, PermissionError), "refuses access"),
    (answered("SignatureDoesNotMatch", 403, PermissionError), "refuses access"),
    (OSError("Forbidden: https://storage"), "refuses access"),  # gcsfs
    (type("NoCredentialsError", (Exception,), {})("none"), "refuses access"),
    (answered("NoSuchBucket", 404, FileNotFoundError), "no such bucket"),
    (answered("EntityTooLarge", 413), "full, a quota is used up"),
    (answered("QuotaExceeded", 403), "full, a quota is used up"),
    (answered("XMinioStorageFull", 507), "full, a quota is used up"),
    (answered("InsufficientCapacity", 503), "full, a quota is used up"),
    (type("ParamValidationError", (Exception,), {})("bucket name"), "cannot be written"),
    (type("EndpointResolutionError", (Exception,), {})("not a valid URI"), "cannot be written"),
]


@pytest.mark.parametrize(("error", "sentence"), FINAL)
def test_what_cannot_pass_is_said_at_once(error: Exception, sentence: str) -> None:
    time = StillClock()
    patience = Patience(seconds=60, clock=time.clock, sleep=time.sleep)
    with pytest.raises(BuildError, match=sentence):
        persist(failing(error), "s3://b/x", "written", patience=patience)
    assert time.pauses == []


def test_errors_that_only_look_final_are_tried_again() -> None:
    """A restart forgets an upload in parts; a stalled connection is answered with 400."""
    assert passes(answered("NoSuchUpload", 404, FileNotFoundError))
    assert passes(answered("RequestTimeout", 400, TimeoutError))


def test_a_secret_in_an_error_is_concealed() -> None:
    options = parse_storage_options(["secret=hunter2hunter2", "endpoint_url=http://e"])
    with pytest.raises(BuildError) as refused:
        persist(failing(PermissionError("key hunter2hunter2 at http://e")), "s3://b/x", "read", options=options)
    assert "key *** at http://e" in str(refused.value)
    assert "hunter2" not in f"{options!r}"


OTHER = orjson.dumps({"owner": "other", "pid": 1, "host": "n"})


class Place:
    """A place in a store that is a dictionary."""

    where = "s3://b/x"

    def __init__(self, **found: Any) -> None:
        self.objects: dict[str, bytes] = {LEASE_NAME: orjson.dumps(found)} if found else {}

    def read(self, name: str, patience: Patience) -> bytes | None:
        return self.objects.get(name)

    def write_small(self, name: str, data: bytes, patience: Patience) -> None:
        self.objects[name] = data

    def remove_object(self, name: str, patience: Patience) -> None:
        self.objects.pop(name, None)

    def count(self) -> None:
        found = orjson.loads(self.objects[LEASE_NAME])
        self.objects[LEASE_NAME] = orjson.dumps({**found, "count": found["count"] + 1})


def test_a_lease_whose_counter_moves_is_respected() -> None:
    place = Place(owner="other", count=7, host="node3", pid=4711)
    time = StillClock(place.count)
    with pytest.raises(BuildError, match=r"s3://b/x: another build or push is writing there \(process 4711 on node3\)"):
        acquire(place, time.pace())
    assert time.now == 1.0


def test_a_lease_that_stands_still_is_taken_over_after_the_watch() -> None:
    place = Place(owner="other", count=7, host="node3", pid=4711)
    time = StillClock()
    owner = acquire(place, time.pace())
    assert 30 <= time.now <= 32
    assert orjson.loads(place.objects[LEASE_NAME])["owner"] == owner


def test_of_two_that_begin_at_once_at_most_one_holds_the_place() -> None:
    """The other writes between our write and our second look."""
    place = Place()
    time = StillClock(lambda: place.write_small(LEASE_NAME, orjson.dumps({"owner": "other"}), Patience(seconds=1)))
    with pytest.raises(BuildError, match="another build or push is writing there"):
        acquire(place, time.pace())


def test_an_owner_who_finds_another_name_stops() -> None:
    place = Place()
    owner = acquire(place, StillClock().pace())
    renew(place, owner, 1)
    assert orjson.loads(place.objects[LEASE_NAME])["count"] == 1
    place.write_small(LEASE_NAME, OTHER, Patience(seconds=1))
    with pytest.raises(
        BuildError, match=r"another build or push has taken this place \(process 1 on n\).* Nothing is committed"
    ):
        renew(place, owner, 2)


def test_who_slept_while_he_asked_asks_again() -> None:
    """The answer was on its way when the machine was closed: by now another one has come, and gone."""
    time = StillClock()

    class Asleep(Place):
        def read(self, name: str, patience: Patience) -> bytes | None:
            answer = super().read(name, patience)
            time.now += 3600
            self.objects.clear()
            return answer

    place = Asleep(owner="ours", count=1)
    with pytest.raises(BuildError, match="another build or push has taken this place"):
        renew(place, "ours", 2, time.pace())
    assert place.objects == {}


class SlowToWrite(Place):
    """A machine that sleeps while it writes a lease; what others do meanwhile is replaced when it wakes."""

    def __init__(self, time: StillClock, seconds: float, **found: Any) -> None:
        super().__init__(**found)
        self.time, self.seconds = time, seconds

    def write_small(self, name: str, data: bytes, patience: Patience) -> None:
        self.time.now += self.seconds
        super().write_small(name, data, patience)


def test_who_slept_while_he_renewed_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another may have come and gone, and only our own name is left to be found: no later look is believed.

    The lease stays: who comes next watches it, and by then one whose lease was replaced has found another name.
    """
    time = StillClock()
    place = SlowToWrite(time, 0)
    monkeypatch.setattr(lease, "PACE", time.pace(renew=1_000))

    def sleep() -> None:
        with leased(place):
            time.now += 31
            place.seconds = 31
            for _ in range(2):
                with pytest.raises(BuildError, match=r"another build or push has taken this place \(unknown\)"):
                    require_held(place.where)
                place.seconds = 0
            require_held(place.where)

    with pytest.raises(BuildError, match="another build or push has taken this place"):
        sleep()
    time.pauses.clear()
    acquire(place, Pace(clock=time.clock, sleep=time.sleep))
    assert sum(time.pauses) >= 30


def test_who_committed_while_a_renewal_took_long_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is wrong with what lies there: no sentence that nothing is committed."""
    time = StillClock()
    place = SlowToWrite(time, 0)
    monkeypatch.setattr(lease, "PACE", time.pace(renew=0.01))
    renewing = threading.Event()

    def write_late(name: str, data: bytes, patience: Patience) -> None:
        renewing.set()
        while place.where in lease._HELD:
            threading.Event().wait(0.001)
        time.now += 31

    with leased(place):
        monkeypatch.setattr(place, "write_small", write_late)
        assert renewing.wait(10)


@pytest.mark.parametrize(("seconds", "waited"), [(0.9, 1.0), (1.1, 6.0), (5.1, 31.0)])
def test_who_was_slow_to_begin_waits_until_another_would_have_stopped(seconds: float, waited: float) -> None:
    """He may have replaced the lease of one who came between his look and his writing, and who renews every 5 s.

    On a network on which a write takes longer than that, a renewal may too.
    """
    time = StillClock()
    acquire(SlowToWrite(time, seconds), time.pace())
    assert sum(time.pauses) == waited


def test_one_who_came_during_the_first_look_is_respected() -> None:
    """The first answer can be old: connections take their time."""

    class Late(Place):
        def read(self, name: str, patience: Patience) -> bytes | None:
            answer = super().read(name, patience)
            self.objects[LEASE_NAME] = OTHER
            return answer

    place = Late()
    with pytest.raises(BuildError, match=r"another build or push is writing there \(process 1 on n\)"):
        acquire(place, StillClock().pace())
    assert place.objects == {LEASE_NAME: OTHER}


def test_a_build_that_lost_its_place_is_interrupted_with_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever its main thread is; and the lease of the other one stays."""
    monkeypatch.setattr(lease, "PACE", Pace(renew=0.05, watch=1.0, settle=0.0))
    place = Place()

    def work() -> None:
        with leased(place):
            place.objects[LEASE_NAME] = OTHER
            threading.Event().wait(10)

    with pytest.raises(BuildError, match="another build or push has taken this place"):
        work()
    assert place.objects == {LEASE_NAME: OTHER}
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_lease_is_gone_after_the_block_however_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "PACE", Pace(renew=0.05, watch=1.0, settle=0.0))
    place = Place()
    with leased(place):
        assert LEASE_NAME in place.objects
    assert place.objects == {}
    with pytest.raises(BuildError, match="the disk is full"), leased(place):
        raise BuildError("the disk is full")
    assert place.objects == {}


def test_who_slept_looks_before_he_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A laptop that was closed: another one may have come, worked and gone on in the meantime."""
    place, taken = Place(), []
    time = StillClock(lambda: taken and place.write_small(LEASE_NAME, taken.pop(), Patience(seconds=1)))
    monkeypatch.setattr(lease, "PACE", time.pace(renew=1_000))
    with leased(place):
        time.now += 29
        place.objects[LEASE_NAME], ours = OTHER, place.objects[LEASE_NAME]
        require_held(place.where)  # nobody takes over so soon: no request for each file that is sent
        place.objects[LEASE_NAME] = ours
        time.now += 2
        require_held(place.where)
        assert orjson.loads(place.objects[LEASE_NAME])["count"] == 1

    def sleep(moment: str) -> None:
        with leased(place):
            time.now += 31
            if moment == "before":
                place.objects[LEASE_NAME] = OTHER
            else:
                taken.append(OTHER)
            require_held(place.where)

    for moment in ("before", "at that moment"):
        with pytest.raises(BuildError, match=r"another build or push has taken this place \(process 1 on n\)"):
            sleep(moment)
        assert place.objects.pop(LEASE_NAME) == OTHER


@pytest.mark.parametrize("renew", [1_000, 0.01])
def test_a_doubt_ends_with_the_second_look(monkeypatch: pytest.MonkeyPatch, renew: float) -> None:
    """Whoever renews, a thread of its own or one that is about to write; the others that would write wait for it."""
    place, doubts = Place(), []
    time = StillClock(lambda: doubts.extend(held.is_doubtful() for held in lease._HELD.values()))
    monkeypatch.setattr(lease, "PACE", time.pace(renew=renew))
    with leased(place):
        with lease._HELD[place.where].lock:  # not in the middle of a renewal, which would take it for a sleep
            time.now += 31
        if renew > 1:
            require_held(place.where)
        while lease._HELD[place.where].is_doubtful():
            threading.Event().wait(0.001)
    assert doubts == [True]


def test_the_lease_of_another_is_not_taken_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """He would find none, and stop; and who ends well did not, if another holds the place by then."""
    time = StillClock()
    monkeypatch.setattr(lease, "PACE", time.pace(renew=1_000))
    place = Place()

    def lose(failure: Exception | None) -> None:
        with leased(place):
            place.objects[LEASE_NAME] = OTHER
            if failure is not None:
                raise failure

    for failure, said in ((BuildError("the disk is full"), "the disk"), (None, "when this one had written all")):
        with pytest.raises(BuildError, match=said):
            lose(failure)
        assert place.objects.pop(LEASE_NAME) == OTHER
