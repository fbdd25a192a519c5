"""What becomes of a peer's message: published, acknowledged once, or refused to the sender alone."""

from __future__ import annotations

import json

import pytest

from tests.core.fakes import identity_of, run
from yamabiko.codecs.plain import PLAIN
from yamabiko.core.errors import PublishFailed, Refused, UnknownRoom
from yamabiko.core.messages import History


def publish(message, id=None):
    return json.dumps({"message": message} | ({"id": id} if id else {}))


def refuse(user, message):
    raise Refused("not like this", 401)


def stumble(user, message):
    raise ZeroDivisionError("as asked")


def forget_to_return(user, message):
    return None


def return_an_object(user, message):
    return object()


@pytest.fixture
def sender(house):
    return house.member(user="alice")


@pytest.fixture
def other(house):
    return house.member(user="bob")


def test_a_publication_carries_its_position_and_its_publisher(sender, other):
    sender.says(publish({"a": [1, None]}))
    payload = other.received[0]["payload"]
    assert payload["message"] == {"a": [1, None]}
    assert (payload["offset"], payload["user"]) == (1, "alice")
    assert payload["epoch"]


def test_an_ack_carries_the_position_and_goes_to_the_sender_alone(sender, other):
    sender.says(publish("hello", "1"))
    payload = other.received[0]["payload"]
    acks = [frame["ack"] for frame in sender.received if "ack" in frame]
    assert acks == [{"id": "1", "offset": payload["offset"], "epoch": payload["epoch"]}]
    assert len(other.received) == 1


def test_an_ack_has_no_position_in_a_room_without_history(house):
    sender = house.member("passing")
    sender.says(publish("hello", "1"))
    assert {"ack": {"id": "1"}} in sender.received


def test_a_message_without_an_id_is_not_acknowledged(sender):
    sender.says(publish("hello"))
    assert [[*frame] for frame in sender.received] == [["payload"]]


def test_the_same_id_of_the_same_user_is_published_once_and_acknowledged_each_time_alike(house, sender, other):
    sender.says(publish("hello", "1"))
    house.member(user="alice").says(publish("hello", "1"))
    sender.says(publish("hello", "1"))
    assert other.messages == ["hello"]
    acks = [frame["ack"] for frame in sender.received if "ack" in frame]
    assert len(acks) == 2
    assert acks[0] == acks[1]


def test_the_same_id_of_another_user_or_in_another_room_is_another_message(house, sender, other):
    sender.says(publish("hello", "1"))
    other.says(publish("hello", "1"))
    elsewhere = house.member("passing", user="alice")
    elsewhere.says(publish("hello", "1"))
    assert sender.messages == ["hello", "hello"]
    assert elsewhere.messages == ["hello"]


def test_people_unknown_to_us_share_no_ids(house):
    first, second = house.member(), house.member()
    first.says(publish("hello", "1"))
    second.says(publish("goodbye", "1"))
    second.says(publish("goodbye", "1"))
    assert first.messages == ["hello", "goodbye"]


def test_who_may_not_publish_is_refused_with_the_id_of_the_message(house):
    house.rules.may_publish = False
    sender, other = house.member(user="alice"), house.member()
    sender.says(publish("hello", "7"))
    (frame,) = sender.received
    assert (frame["error"]["code"], frame["error"]["id"]) == (103, "7")
    assert frame["error"]["message"].startswith("permission denied")
    assert other.received == []


def test_the_right_to_publish_is_asked_for_once_when_joining(house, sender, other):
    house.rules.may_publish = False
    sender.says("hello")
    assert other.messages == ["hello"]


def test_on_publish_gets_the_user_and_the_message_and_returns_what_is_published(house, sender, other):
    house.rules.change = lambda user, message: {"text": message["text"], "by": user}
    sender.says(publish({"text": "hello"}))
    assert other.messages == [{"text": "hello", "by": "alice"}]


def test_on_publish_may_publish_null_for_null(house, sender, other):
    house.rules.change = lambda user, message: message
    sender.says(publish(None))
    assert other.messages == [None]


def test_a_refusal_goes_to_the_sender_alone_with_the_applications_code_and_words(house, sender, other):
    house.rules.change = refuse
    sender.says(publish("hello", "7"))
    assert sender.received == [{"error": {"code": 401, "message": "not like this", "id": "7"}}]
    assert other.received == []
    assert sender.connection.is_open


def test_a_refusal_without_a_code_has_400_and_one_outside_400_to_1999_cannot_be_made():
    assert Refused("no").code == 400
    for code in (399, 2000, 103):
        with pytest.raises(ValueError, match="400 to 1999"):
            Refused("no", code)


@pytest.mark.parametrize(
    ("mistake", "logged"),
    [
        (stumble, "ZeroDivisionError: as asked"),
        (forget_to_return, "on_publish returned None; return what is to be published"),
        (return_an_object, "a message must be something JSON can hold"),
    ],
)
def test_a_mistake_in_on_publish_gives_error_100_to_the_sender_alone_and_a_logged_traceback(
    house, sender, other, caplog, mistake, logged
):
    house.rules.change = mistake
    sender.says(publish("hello", "7"))
    assert sender.received == [{"error": {"code": 100, "message": "internal server error", "id": "7"}}]
    assert other.received == []
    assert logged in caplog.text
    assert "Traceback" in caplog.text

    house.rules.change = None
    sender.says("next")
    assert other.messages == ["next"]


def test_a_publish_that_fails_is_told_to_the_sender_alone(house, sender, other):
    house.broker.publish_fails_with = PublishFailed("the disk is full")
    sender.says(publish("hello", "7"))
    (frame,) = sender.received
    assert (frame["error"]["code"], frame["error"]["id"]) == (100, "7")
    assert "try again" in frame["error"]["message"]
    assert other.received == []


def test_a_sender_is_told_where_nobody_knows_whether_it_was_published(house, sender):
    house.broker.publish_fails_with = PublishFailed("no answer", may_be_published=True)
    sender.says(publish("hello", "7"))
    (frame,) = sender.received
    assert "it is not known whether the message was published" in frame["error"]["message"]


def test_a_broker_that_breaks_in_an_unforeseen_way_gives_error_100_and_the_connection_lives(house, sender, caplog):
    house.broker.publish_fails_with = ZeroDivisionError("as asked")
    sender.says("hello")
    house.broker.publish_fails_with = None
    sender.says("again")
    assert sender.errors == [100]
    assert sender.messages == ["again"]
    assert "ZeroDivisionError: as asked" in caplog.text


def test_a_payload_that_is_no_command_is_answered_with_its_id_and_the_connection_lives(sender, other):
    sender.says('{"text": "hello", "id": "7"}')
    sender.says("hello")
    assert sender.errors == [107]
    assert sender.received[0]["error"]["id"] == "7"
    assert other.messages == ["hello"]


def test_a_payload_before_the_join_is_a_bad_request(house):
    peer = house.member()
    connection = house.node.connect(PLAIN, identity_of(""))
    connection.transport = peer.transport
    run(connection.receive("hello"))
    assert peer.errors == [107]


def test_the_application_publishes_without_asking_any_room_class_for_leave(house, other):
    house.rules.change = refuse
    house.rules.may_publish = False
    position = house.publish("deployed", user="ops")
    assert other.received == [
        {
            "payload": {
                "type": "send_message",
                "message": "deployed",
                "offset": 1,
                "epoch": position.epoch,
                "user": "ops",
            }
        }
    ]


def test_the_application_publishes_once_under_one_key(house, other):
    assert house.publish("deployed", key="build 7") == house.publish("deployed", key="build 7")
    assert other.messages == ["deployed"]


def test_the_application_is_told_of_a_room_that_nobody_declared(house):
    with pytest.raises(UnknownRoom, match="nowhere"):
        house.publish("hello", "nowhere")


def test_history_is_kept_while_nobody_is_there(house):
    house.rules.history = History(size=2)
    house.publish_many(["one", "two", "three"])
    assert house.member(history=5).messages == ["two", "three"]


def test_where_nothing_waits_a_message_is_handled_at_once(house):
    house.broker.answers_at_once = True
    sender = house.member("passing")
    assert sender.connection.receive_at_once('{"message": "hello", "id": "1"}')
    assert sender.messages == ["hello"]
    assert {"ack": {"id": "1"}} in sender.received


def test_where_the_broker_might_wait_nothing_is_handled_at_once(house):
    sender = house.member("passing")
    assert not sender.connection.receive_at_once("hello")
    assert sender.received == []


def test_where_the_application_might_wait_nothing_is_handled_at_once(house):
    house.broker.answers_at_once = True
    house.passing.change = lambda user, message: message
    sender = house.member("passing")
    assert not sender.connection.receive_at_once("hello")
    assert sender.received == []
