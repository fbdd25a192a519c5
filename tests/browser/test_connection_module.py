"""The JavaScript module that the package ships: what a page's connection does, whatever befalls it."""

import gzip
from pathlib import Path

import pytest

import yamabiko
from tests.browser.connection_double import ConnectionDouble, error, person, publication
from tests.browser.connection_page import ConnectionPage

pytestmark = [pytest.mark.browser, pytest.mark.server]

LOST, CLOSED, TOO_MANY_WAITING, LEFT = 1, 2, 3, 4
SOURCE = Path(yamabiko.__file__).parent / "static" / "yamabiko" / "connection.js"


@pytest.fixture
def double():
    return ConnectionDouble()


@pytest.fixture
def page(visitor, double):
    return ConnectionPage(double.answer(visitor())).until_state("live")


@pytest.fixture
def timed(visitor, double):
    """Return a function that opens a page whose clock stands still until it is wound."""

    def open_page(options: str = "") -> ConnectionPage:
        context = double.answer(visitor())
        context.clock.install(time=0)
        context.clock.pause_at(1_000)
        return ConnectionPage(context, options)

    return open_page


def test_module_is_below_8_kilobytes_compressed_as_it_is_shipped():
    assert len(gzip.compress(SOURCE.read_bytes(), 9)) < 8_000


# Coming back


def test_break_is_resumed_after_the_last_message_told(page, double):
    page.enter()
    double.publish("room1", 8, 9)
    page.until_messages({"n": 8}, {"n": 9})
    double.replies["subscribe"] = {"epoch": "first", "offset": 9, "recovered": True, "publications": [publication(10)]}
    double.close()
    page.until_messages({"n": 8}, {"n": 9}, {"n": 10})
    first, second = double.requests("subscribe")
    assert first == {"channel": "room1", "join_leave": False}
    assert second == {"channel": "room1", "join_leave": False, "recover": True, "epoch": "first", "offset": 9}
    assert page.told("gap") == []
    assert [each["isResumed"] for each in page.told("joined")] == [False, True]


def test_what_the_room_no_longer_keeps_is_told_as_a_gap_and_it_goes_on_from_there(page, double):
    page.enter()
    double.replies["subscribe"] = {"epoch": "second", "offset": 3, "was_recovering": True}
    double.close()
    page.until("told.some(([type]) => type === 'gap')")
    assert page.told("gap") == [{"epoch": "second", "offset": 3}]
    double.publish("room1", 4)
    page.until_messages({"n": 4})
    assert page.get("room.position") == {"epoch": "second", "offset": 4}


def test_break_in_a_room_that_keeps_nothing_is_a_gap(page, double):
    double.replies["subscribe"] = {}
    page.enter()
    assert page.told("gap") == []
    double.close()
    page.until("told.some(([type]) => type === 'gap')")
    assert page.told("gap") == [None]


def test_message_that_comes_twice_is_told_once_and_lines_of_a_frame_in_order(page, double):
    page.enter()
    double.publish("room1", 8, 8, 9)
    double.publish("room1", 9, 10)
    page.until_messages({"n": 8}, {"n": 9}, {"n": 10})


@pytest.mark.parametrize(("random", "waits"), [(1, [2, 4, 8, 16, 20, 20]), (0, [0.5] * 6)])
def test_waits_grow_to_twenty_seconds_and_are_spread(timed, double, random, waits):
    double.replies["connect"] = lambda request: double.close()
    page = timed().until_state("waiting")
    page.run(f"Math.random = () => {random}; globalThis.waits = []")
    page.run("globalThis.wait = ({ detail: { retryAt } }) => retryAt && waits.push(retryAt - Date.now())")
    page.run("connection.addEventListener('state', wait)")
    for tried in range(len(waits)):
        page.page.clock.fast_forward(20_000)
        page.until(f"waits.length === {tried + 1}")
    assert [round(wait / 1000, 1) for wait in page.get("waits")] == waits


@pytest.mark.parametrize("code", [3500, 3999, 4500, 4999])
def test_terminal_code_is_final_until_the_page_opens_it_again(page, double, code):
    double.replies["rpc"] = None
    page.enter()
    page.run("globalThis.asked = fate(room.call('forever'))")
    double.close(code, "enough")
    page.until_state("closed")
    assert page.get("connection.state") == {"name": "closed", "code": code, "reason": "enough"}
    assert page.get("asked")["code"] == LOST
    assert page.fate("room.publish('hello')") == {
        "name": "Refusal",
        "code": CLOSED,
        "message": "the connection is closed: enough",
        "isTemporary": False,
    }
    page.run("dispatchEvent(new Event('online'))")
    assert len(double.sockets) == 1
    page.run("connection.open()")
    page.until("room.state === 'joined'")
    assert len(double.sockets) == 2


def test_code_told_in_words_counts_where_the_close_frame_says_nothing(page, double):
    double.push(disconnect={"code": 3503, "reason": "force disconnect"})
    page.until_state("closed")
    assert page.get("connection.state.code") == 3503


@pytest.mark.parametrize(
    "event", ["dispatchEvent(new Event('online'))", "document.dispatchEvent(new Event('visibilitychange'))"]
)
def test_coming_online_or_into_view_connects_at_once(page, double, event):
    page.run("globalThis.setTimeout = () => 0")  # left alone, it would wait for ever
    double.close()
    page.until_state("waiting")
    page.run(event)
    page.until_state("live")
    page.run(event)
    assert len(double.sockets) == 2


def test_closed_connection_says_so_and_leaves_nothing_behind(page, double):
    page.enter()
    page.run("connection.close(); dispatchEvent(new Event('online'))")
    assert page.get("connection.state.name") == "closed"
    assert page.fate("connection.call('x')")["code"] == CLOSED
    page.run("connection.open()")
    page.until("room.state === 'joined'")
    assert double.requests("subscribe")[1]["recover"]
    assert len(double.sockets) == 2


# Pings


def test_pings_are_answered(page, double):
    double.ping()
    double.publish("nowhere", 1)
    page.fate("connection.call('x')")
    assert double.pongs == 1


def test_silence_for_longer_than_a_ping_and_ten_seconds_is_a_broken_connection(timed, double):
    page = timed().until_state("live")
    page.page.clock.fast_forward(34_000)
    double.ping()
    page.fate("connection.call('x')")
    page.page.clock.fast_forward(34_000)
    assert page.get("connection.state.name") == "live"
    page.page.clock.fast_forward(1_001)
    assert page.get("connection.state.name") == "waiting"


def test_server_that_never_answers_is_tried_again(timed, double):
    double.replies["connect"] = None
    page = timed()
    page.until("connection.state.name === 'connecting'")
    page.page.clock.fast_forward(10_001)
    page.until_state("waiting")


# What is asked for


def test_what_was_sent_and_not_answered_is_refused_as_lost_and_not_sent_again(page, double):
    page.enter()
    double.replies["publish"] = lambda request: double.close(1009, "message too big")
    assert page.fate("room.publish('hello?')") == {
        "name": "Refusal",
        "code": LOST,
        "message": "the connection ended before the answer: message too big",
        "isTemporary": False,
    }
    page.until("room.state === 'joined'")
    assert len(double.requests("publish")) == 1


def test_what_is_asked_for_during_a_break_waits_in_order_and_only_so_much_of_it(page, double):
    page.enter()
    page.run("globalThis.setTimeout = () => 0")
    double.close()
    page.until_state("waiting")
    page.run("globalThis.said = { n: 0 }; globalThis.fates = []")
    page.run("for (; said.n < 101; said.n += 1) fates.push(fate(room.publish(said)))")
    assert page.get("fates[100]") == {
        "name": "Refusal",
        "code": TOO_MANY_WAITING,
        "message": "100 others wait for the connection",
        "isTemporary": True,
    }
    page.run("dispatchEvent(new Event('online'))")
    assert page.get("Promise.all(fates.slice(0, 100))") == [{"done": None}] * 100
    assert [request["data"]["n"] for request in double.requests("publish")] == list(range(100))


def test_what_no_json_can_hold_is_refused_and_does_not_wait(page):
    page.enter()
    assert page.fate("room.publish(1n)")["name"] == "TypeError"
    assert page.fate("room.publish('fine')") == {"done": None}


def test_call_returns_what_the_server_does_or_is_refused_by_its_code(page, double):
    double.replies["rpc"] = {"data": None}
    assert page.fate("connection.call('f')") == {"done": None}
    double.replies["rpc"] = error(400, "not today")
    page.enter()
    refusal = page.fate("room.call('roll', { sides: 6 })")
    assert refusal == {"name": "Refusal", "code": 400, "message": "not today", "isTemporary": False}
    assert double.requests("rpc") == [
        {"method": "f", "data": {}},
        {"method": "room1:roll", "data": {"sides": 6}},
    ]


def test_history_is_read_with_its_position(page, double):
    page.enter()
    double.replies["history"] = {"epoch": "first", "offset": 7, "publications": [publication(7), publication(6)]}
    read = page.get("room.history({ limit: 2, reverse: true })")
    assert [each["offset"] for each in read["publications"]] == [7, 6]
    assert read["position"] == {"epoch": "first", "offset": 7}
    assert double.requests("history") == [{"channel": "room1", "limit": 2, "reverse": True}]


# Rooms


def test_room_that_is_refused_is_left_and_what_waits_for_it_is_refused_too(page, double):
    double.replies["subscribe"] = error(103, "permission denied")
    page.run("globalThis.room = enter('secret'); globalThis.waiting = fate(room.publish('x'))")
    assert page.get("waiting")["code"] == 103
    assert page.told("left") == [{"code": 103, "reason": "permission denied"}]
    assert page.get("[room.state, connection.rooms.length]") == ["left", 0]
    assert page.fate("room.publish('x')")["code"] == LEFT


def test_room_that_is_refused_for_now_is_asked_for_again(page, double):
    refusals = [error(100, "internal server error", temporary=True)]
    joined = double.replies["subscribe"]
    double.replies["subscribe"] = lambda request: refusals.pop() if refusals else joined
    page.run("globalThis.room = enter('room1'); globalThis.waiting = fate(room.publish('x'))")
    assert page.get("waiting") == {"done": None}
    assert [kind for kind, _ in double.asked] == ["connect", "subscribe", "subscribe", "publish"]
    assert page.told("left") == []


def test_subscription_that_the_server_cannot_keep_up_is_resumed(page, double):
    page.enter()
    double.replies["subscribe"] = {"epoch": "first", "offset": 7, "recovered": True, "publications": [publication(8)]}
    double.push("room1", unsubscribe={"code": 2500, "reason": "insufficient state"})
    page.until_messages({"n": 8})
    assert double.requests("subscribe")[1]["offset"] == 7


def test_subscription_that_the_server_ends_is_left(page, double):
    page.enter()
    double.push("room1", unsubscribe={"code": 2000, "reason": "server unsubscribe"})
    page.until("room.state === 'left'")
    assert page.told("left") == [{"code": 2000, "reason": "server unsubscribe"}]


def test_room_is_the_same_until_it_is_left_and_a_new_one_hears_nothing_of_the_old(page, double):
    page.enter()
    assert page.get("connection.join('room1') === room")
    double.replies["unsubscribe"] = lambda request: double.publish("room1", 8) or {}
    page.run("room.leave(); globalThis.again = enter('room1')")
    page.until("again.state === 'joined'")
    double.publish("room1", 9)
    page.until_messages({"n": 9})
    assert page.told("left") == [{"code": 0, "reason": "left by this page"}]


def test_name_goes_out_in_the_form_in_which_rooms_are_known(page, double):
    page.run(r"connection.join('\u306f\u3099')")
    page.fate("connection.call('x')")
    assert double.requests("subscribe")[0]["channel"] == "\u3070"


def test_earlier_messages_come_first_and_those_of_meanwhile_after_them(page, double):
    def read(request):
        double.publish("room1", 8, 9)
        return {"epoch": "first", "offset": 8, "publications": [publication(n) for n in (6, 7, 8)]}

    double.replies["history"] = read
    page.enter(options="{ history: 2 }")
    page.until_messages({"n": 6}, {"n": 7}, {"n": 8}, {"n": 9})
    assert double.requests("history") == [{"channel": "room1", "limit": 2, "since": {"epoch": "first", "offset": 5}}]
    assert page.told("gap") == []


def test_break_before_the_earlier_messages_begins_anew(page, double):
    double.replies["history"] = lambda request: double.close()
    page.enter(options="{ history: 2 }")
    double.replies["history"] = {"publications": [publication(6), publication(7)]}
    page.until_messages({"n": 6}, {"n": 7})
    assert [request.get("recover") for request in double.requests("subscribe")] == [None, None]
    assert page.told("gap") == []


def test_subscription_that_ends_before_the_earlier_messages_begins_anew(page, double):
    def read(request):
        double.replies["history"] = {"publications": [publication(6), publication(7)]}
        double.push("room1", unsubscribe={"code": 2500, "reason": "insufficient state"})
        return {"publications": [publication(6)]}

    double.replies["history"] = read
    page.enter(options="{ history: 2 }")
    page.until_messages({"n": 6}, {"n": 7})
    assert page.told("gap") == []


def test_earlier_messages_that_cannot_be_read_hold_nothing_up(page, double):
    double.replies["history"] = error(108, "not available")
    page.enter(options="{ history: 2 }")
    double.publish("room1", 8)
    page.until_messages({"n": 8})


def test_room_that_was_left_tells_nothing_of_what_was_still_on_its_way(page, double):
    double.replies["history"] = {"publications": [publication(6), publication(7)]}
    double.replies["presence"] = {"presence": {"a": person("a")}}
    joined = "room.addEventListener('joined', () => room.leave())"
    page.run(f"globalThis.room = enter('room1', {{ history: 2, presence: true }}); {joined}")
    page.until("room.state === 'left'")
    page.fate("connection.call('x')")
    assert [page.messages(), page.told("members")] == [[], []]


def test_room_that_is_left_over_a_message_tells_no_more(page, double):
    missed = [publication(6), publication(7)]
    double.replies["subscribe"] = {"epoch": "first", "offset": 5, "recovered": True, "publications": missed}
    leaving = "room.addEventListener('message', () => room.leave())"
    page.run(f"globalThis.room = enter('room1', {{ since: {{ epoch: 'first', offset: 5 }} }}); {leaving}")
    page.until("room.state === 'left'")
    assert page.messages() == [{"n": 6}]


def test_room_can_go_on_where_a_page_knows_it_was(page, double):
    double.replies["subscribe"] = {"epoch": "first", "offset": 5, "recovered": True, "publications": [publication(6)]}
    page.enter(options="{ since: { epoch: 'first', offset: 5 } }")
    page.until_messages({"n": 6})
    assert double.requests("subscribe")[0]["offset"] == 5


def test_rooms_of_the_server_are_told_and_resumed_and_left_when_it_names_them_no_more(visitor, double):
    granted = {"epoch": "first", "offset": 2, "recoverable": True, "positioned": True}
    double.replies["connect"] = {"client": "c1", "subs": {"desk": granted}}
    page = ConnectionPage(double.answer(visitor())).until_state("live")
    page.run("globalThis.room = hear(connection.rooms[0], 'message', 'left')")
    double.publish("desk", 3)
    page.until_messages({"n": 3})
    resumed = {"epoch": "first", "offset": 3, "recovered": True, "publications": [publication(4)]}
    double.replies["connect"] = {"client": "c1", "subs": {"desk": resumed}}
    double.close()
    page.until_messages({"n": 3}, {"n": 4})
    assert double.requests("connect")[1]["subs"] == {"desk": {"recover": True, "epoch": "first", "offset": 3}}
    double.replies["connect"] = {"client": "c1"}
    double.close()
    page.until("room.state === 'left'")
    assert double.requests("subscribe") == []


def test_room_that_the_server_adds_later_is_told_before_its_messages(page, double):
    page.run("connection.addEventListener('room', ({ detail }) => enter(detail.name))")
    double.tell(
        {"push": {"channel": "desk", "subscribe": {"epoch": "first", "offset": 2}}},
        {"push": {"channel": "desk", "pub": publication(3)}},
    )
    page.until_messages({"n": 3})


def test_message_to_the_user_is_an_event_of_the_connection(page, double):
    double.push(message={"data": {"hello": "you"}})
    page.until_messages({"hello": "you"})


# Members


def clients(page: ConnectionPage) -> list[str]:
    return page.get("room.members.map(({ client }) => client).sort()")


def test_members_are_those_listed_with_what_changed_meanwhile(page, double):
    def listed(request):
        double.push("room1", join={"info": person("came")})
        double.push("room1", leave={"info": person("left")})
        return {"presence": {client: person(client) for client in ("left", "there")}}

    double.replies["presence"] = listed
    page.enter(options="{ presence: true }")
    page.until("room.members.some(({ client }) => client === 'there')")
    assert clients(page) == ["came", "there"]
    double.push("room1", leave={"info": person("there")})
    double.push("room1", join={"info": person("later", "7")})
    page.until("room.members.length === 2 && room.members.some(({ user }) => user === '7')")
    told = page.told("members")[-1]
    assert told[-1] == {
        "client": "later",
        "user": "7",
        "name": "name of 7",
        "info": {"name": "name of 7"},
        "roomInfo": None,
    }


def test_members_who_left_during_a_break_are_gone_after_it(page, double):
    double.replies["presence"] = {"presence": {"a": person("a"), "b": person("b")}}
    page.enter(options="{ presence: true }")
    page.until("room.members.length === 2")
    double.replies["presence"] = {"presence": {"b": person("b")}}
    double.close()
    page.until("room.members.length === 1")
    assert clients(page) == ["b"]


# Tokens

COUNTING = "{ token: async () => { globalThis.tokens = (globalThis.tokens ?? 0) + 1; return `token ${tokens}` } }"


def test_token_is_renewed_before_it_expires(timed, double):
    expiry = {"expires": True, "ttl": 10}
    double.replies |= {"connect": {"client": "c1", **expiry}, "refresh": expiry}
    page = timed(COUNTING).until_state("live")
    for expected in (["token 2"], ["token 2", "token 3"]):
        page.page.clock.fast_forward(7_900)
        page.fate("connection.call('x')")
        assert len(double.requests("refresh")) == len(expected) - 1
        page.page.clock.fast_forward(101)
        page.until(f"tokens === {len(expected) + 1}")
        page.fate("connection.call('x')")
        assert [request["token"] for request in double.requests("refresh")] == expected
    assert len(double.sockets) == 1


def test_month_is_not_too_long_for_a_token(timed, double):
    double.replies["connect"] = {"client": "c1", "expires": True, "ttl": 40 * 24 * 3600}
    page = timed(COUNTING).until_state("live")
    page.page.clock.fast_forward(1_000)
    assert page.get("tokens") == 1


def test_expired_token_is_replaced_by_a_new_one(visitor, double):
    welcome = double.replies["connect"]
    double.replies["connect"] = lambda request: (
        welcome if request["token"] == "token 2" else error(109, "token expired")
    )
    page = ConnectionPage(double.answer(visitor()), COUNTING).until_state("live")
    assert page.get("tokens") == 2


def test_token_that_cannot_be_had_is_asked_for_again(visitor, double):
    at_second = "if (!globalThis.tried) { globalThis.tried = true; throw new Error('502') } return 't'"
    ConnectionPage(double.answer(visitor()), f"{{ token: async () => {{ {at_second} }} }}").until_state("live")
    assert double.requests("connect")[0]["token"] == "t"


def test_connection_that_is_refused_for_good_is_closed(visitor, double):
    double.replies["connect"] = error(101, "unauthorized")
    page = ConnectionPage(double.answer(visitor())).until_state("closed")
    assert page.get("connection.state") == {"name": "closed", "code": 101, "reason": "unauthorized"}


def test_page_that_may_have_no_token_says_so_with_a_refusal(visitor, double):
    page = ConnectionPage(
        double.answer(visitor()), "{ token: async () => { throw new Refusal(101, 'sign in first') } }"
    )
    page.until_state("closed")
    assert page.get("connection.state.reason") == "sign in first"
    assert double.sockets == []
