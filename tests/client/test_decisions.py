"""What the guest decides without a socket: masking, printing, addresses, waiting, remembering."""

from __future__ import annotations

import json
import sys
import unicodedata

import pytest

from yamabiko.client import endings, wire
from yamabiko.client.address import Address, BadAddress, checked_url, label_of, origin_of, parsed_header, room_url
from yamabiko.client.backoff import Backoff
from yamabiko.client.bookmark import Bookmark
from yamabiko.client.masking import masked_header, masked_payload, masked_url
from yamabiko.client.outbox import Outbox
from yamabiko.client.pipe import Lines, UnusableLine
from yamabiko.client.printable import printable
from yamabiko.client.screen import message_line, presence_line, quoted
from yamabiko.client.wire import Ack, Gap, Position, Presence, Publication, Refusal, Unknown


class TestPrintable:
    def test_no_code_point_gets_through_that_could_drive_a_terminal(self):
        shown = printable("".join(map(chr, range(sys.maxunicode + 1))))
        assert not {unicodedata.category(character) for character in shown} & {"Cc", "Cs", "Zl", "Zp"}
        assert not {unicodedata.bidirectional(character) for character in shown} & {
            *("LRE", "RLE", "LRO", "RLO", "PDF"),
            *("LRI", "RLI", "FSI", "PDI"),
        }

    @pytest.mark.parametrize("text", ["hello", "山彦", "か\u3099", "👩\u200d🚀", "שלום", "\N{NO-BREAK SPACE}"])
    def test_ordinary_text_of_any_language_stays_as_it_is(self, text):
        assert printable(text) == text

    def test_control_characters_are_shown_instead_of_obeyed(self):
        assert printable("\x1b[2J\x00\x7f\x9b") == "␛[2J␀␡\N{REPLACEMENT CHARACTER}"

    def test_line_breaks_of_every_kind_are_one_mark(self):
        assert printable("a\nb\r\nc\u2028d\x85e\tf") == "a↵b↵c↵d↵e f"


class TestMasking:
    def test_a_url_loses_its_password_and_its_secret_parameters_only(self):
        masked = masked_url("wss://bob:pw@host:1/p/?access_token=x&since=a:1&API_KEY=y#f")
        assert masked == "wss://***@host:1/p/?access_token=***&since=a:1&API_KEY=***#f"

    @pytest.mark.parametrize(
        ("name", "value", "shown"),
        [
            ("Cookie", "a=b; c=d=e", "a=***; c=***"),
            ("Set-Cookie", "sessionid=x; HttpOnly", "***"),
            ("AUTHORIZATION", "Bearer x", "***"),
            ("X-CSRFToken", "x", "***"),
            ("Host", "example.test", "example.test"),
            ("Location", "/login/?ticket=x", "/login/?ticket=***"),
        ],
    )
    def test_a_header_shows_its_secret_to_nobody(self, name, value, shown):
        assert masked_header(name, value) == shown

    def test_secret_fields_are_masked_at_any_depth(self):
        frame = {"message": [{"apiKey": 1, "PASSWORD": {"a": "b"}, "author": "c", "auth": "d"}], "id": "1"}
        assert json.loads(masked_payload(json.dumps(frame))) == {
            "message": [{"apiKey": "***", "PASSWORD": "***", "author": "c", "auth": "***"}],
            "id": "1",
        }

    @pytest.mark.parametrize("payload", ["hello", "{", '{"message":  "as typed"}', "[" * 100_000])
    def test_a_frame_without_secrets_is_shown_as_it_was(self, payload):
        assert masked_payload(payload) == payload


class TestAddress:
    @pytest.mark.parametrize(
        ("host", "room", "url"),
        [
            ("127.0.0.1", None, "ws://127.0.0.1:8000/websock1/"),
            ("::1", None, "ws://[::1]:8000/websock1/"),
            ("example.test", "chat/lobby", "ws://example.test:8000/rooms/chat/lobby/"),
            ("example.test", "山 彦", "ws://example.test:8000/rooms/%E5%B1%B1%20%E5%BD%A6/"),
        ],
    )
    def test_host_port_and_room_make_the_url(self, host, room, url):
        assert room_url(host, 8000, room) == url

    @pytest.mark.parametrize(
        ("url", "origin"),
        [
            ("ws://host:8000/x/", "http://host:8000"),
            ("ws://host:80/x/", "http://host"),
            ("wss://Host/", "https://host"),
            ("wss://u:p@[::1]:8443/", "https://[::1]:8443"),
        ],
    )
    def test_the_origin_is_that_of_a_page_on_the_same_server(self, url, origin):
        assert origin_of(url) == origin

    @pytest.mark.parametrize("url", ["ws://user@h/", "ws://h/a b", "ws://h/\x1b", "ws://h:x/", "ws://[::1/", "h"])
    def test_a_url_that_cannot_work_is_refused(self, url):
        with pytest.raises(BadAddress, match="expected a URL"):
            checked_url(url)

    def test_a_refused_url_is_repeated_without_its_secrets(self):
        with pytest.raises(BadAddress) as caught:
            checked_url("http://a:SECRET1@h/?token=SECRET2")
        assert "SECRET" not in str(caught.value)

    def test_since_takes_the_place_of_the_urls_own_history(self):
        address = Address("ws://h/?presence=1&history=5")
        assert address.with_query({"since": "e:1"}) == "ws://h/?presence=1&since=e:1"
        assert address.with_query({}) == "ws://h/?presence=1&history=5"

    @pytest.mark.parametrize(
        ("url", "label"),
        [
            ("ws://h/websock1/", "room1"),
            ("ws://h/rooms/a%20b/c/", "a b/c"),
            ("ws://h:1/", "h:1"),
            ("ws://u:p@h:1/", "h:1"),
        ],
    )
    def test_the_label_is_the_rooms_name_where_it_can_be_seen(self, url, label):
        assert label_of(url) == label

    @pytest.mark.parametrize("line", ["Name", ": value", "Na me: x", "Sec-WebSocket-Key: x", "Host: x", "A: \u3042"])
    def test_a_header_that_would_break_the_handshake_is_refused(self, line):
        with pytest.raises(BadAddress):
            parsed_header(line)


class TestBackoff:
    def test_the_ceiling_doubles_from_half_a_second_to_twenty(self):
        ceilings = []
        backoff = Backoff(draw=lambda low, high: ceilings.append((low, high)) or high)
        for _ in range(8):
            backoff.next_delay()
        assert ceilings == [(0, 0.5), (0, 1), (0, 2), (0, 4), (0, 8), (0, 16), (0, 20), (0, 20)]

    def test_failures_without_end_do_not_overflow(self):
        assert Backoff(draw=lambda _low, high: high, failures=100_000).next_delay() == 20

    def test_the_servers_wish_is_respected_up_to_the_last_ceiling(self):
        backoff = Backoff(draw=lambda low, _high: low)
        assert [backoff.next_delay(3), backoff.next_delay(10**9)] == [3, 20]

    def test_only_a_connection_that_held_begins_anew(self):
        backoff = Backoff(failures=4)
        backoff.connection_lived(0.1)
        assert backoff.failures == 4
        backoff.connection_lived(60)
        assert backoff.failures == 0


def seen(offset: int, epoch: str = "e") -> Publication:
    return Publication("m", Position(epoch, offset))


class TestBookmark:
    def test_it_asks_for_what_follows_the_newest_seen(self):
        bookmark = Bookmark(history=5)
        assert bookmark.query() == {"history": "5"}
        assert [bookmark.is_new(seen(offset)) for offset in (3, 4, 4, 2)] == [True, True, False, False]
        assert bookmark.query() == {"since": "e:4"}

    def test_a_new_epoch_is_new_however_small_its_offsets(self):
        bookmark = Bookmark(position=Position("old", 9))
        assert bookmark.is_new(seen(1, "new"))
        assert bookmark.query() == {"since": "new:1"}

    def test_a_gap_moves_it_forward(self):
        bookmark = Bookmark(position=Position("e", 1))
        bookmark.skip_to(Gap(Position("e", 7)))
        assert bookmark.query() == {"since": "e:7"}

    def test_an_accepted_message_tells_where_to_resume_but_hides_nothing_of_others(self):
        bookmark = Bookmark()
        bookmark.learn_from(Ack("1", Position("e", 5)))
        bookmark.learn_from(Ack("2", Position("e", 6)))
        assert bookmark.query() == {"since": "e:4"}
        assert bookmark.is_new(seen(3))

    def test_a_room_without_numbers_is_never_asked_for_its_past_again(self):
        bookmark = Bookmark(history=5, has_visited=True)
        assert bookmark.query() == {"history": "300"}
        bookmark.is_new(Publication("m"))
        assert bookmark.query() == {}


class TestOutbox:
    def outbox(self, *texts: str, limit: int = 10) -> Outbox:
        outbox = Outbox(author="a", limit=limit)
        for text in texts:
            outbox.add(text)
        return outbox

    def sent(self, outbox: Outbox) -> list[str]:
        return [json.loads(frame)["id"] for frame in outbox.take_unsent()]

    def test_each_message_is_sent_once_in_order(self):
        outbox = self.outbox("one", "two")
        assert self.sent(outbox) == ["a-1", "a-2"]
        assert self.sent(outbox) == []

    def test_after_a_break_the_unanswered_are_sent_again_with_the_same_ids(self):
        outbox = self.outbox("one", "two", "three")
        self.sent(outbox)
        outbox.answered("a-2")
        outbox.add("four")
        outbox.rewind()
        assert self.sent(outbox) == ["a-1", "a-3", "a-4"]

    def test_an_answer_that_comes_before_the_second_sending_stops_it(self):
        outbox = self.outbox("one")
        self.sent(outbox)
        outbox.rewind()
        assert outbox.answered("a-1") == "one"
        assert self.sent(outbox) == []

    def test_it_is_full_until_something_is_answered(self):
        outbox = self.outbox("one", limit=1)
        assert not outbox.has_room
        with pytest.raises(OverflowError, match="1 messages wait"):
            outbox.add("two")
        assert outbox.answered("of another program") is None
        outbox.answered("a-1")
        assert outbox.has_room


class TestWire:
    @pytest.mark.parametrize(
        ("payload", "frame"),
        [
            ('{"payload": {"type": "send_message", "message": "x"}}', Publication("x")),
            (
                '{"payload": {"message": null, "offset": 7, "epoch": "e", "user": "a"}}',
                Publication(None, Position("e", 7), "a"),
            ),
            ('{"ack": {"id": "1"}}', Ack("1")),
            ('{"ack": {"id": "1", "offset": 2, "epoch": "e"}}', Ack("1", Position("e", 2))),
            ('{"error": {"code": 103, "message": "no"}}', Refusal(103, "no")),
            ('{"error": {"code": 103, "message": "no", "id": "1"}}', Refusal(103, "no", "1")),
            ('{"gap": {"epoch": "e", "offset": 9}}', Gap(Position("e", 9))),
            ('{"presence": {"joined": [{"client": "c", "user": "a"}, {"client": "d"}]}}', Presence(("a", "d"), ())),
            ('{"presence": {"left": [{"client": "c"}]}}', Presence((), ("c",))),
        ],
    )
    def test_every_frame_of_the_protocol_is_understood(self, payload, frame):
        assert wire.decode(payload) == frame

    @pytest.mark.parametrize(
        "payload",
        [
            *("", "hello", "[]", "7", "null", "{}", b"\xff", "[" * 100_000, '{"later": 1}', '{"payload": {}}'),
            *('{"gap": {"epoch": "e"}}', '{"error": {"code": "x"}}', '{"presence": {"joined": 3}}', '{"ack": []}'),
        ],
    )
    def test_what_cannot_be_understood_is_unknown_and_no_exception(self, payload):
        assert wire.decode(payload) == Unknown(payload)

    def test_a_message_is_encoded_with_its_id(self):
        assert json.loads(wire.encode('山 "彦"', "1")) == {"message": '山 "彦"', "id": "1"}


class TestEndings:
    def test_the_final_closes_are_those_of_the_protocol(self):
        final = [code for code in range(1000, 5000) if endings.is_final_close(code)]
        assert final == [1002, 1003, 1007, 1008, 1009, 1010, *range(3500, 4000), *range(4500, 5000)]

    @pytest.mark.parametrize(("status", "is_final"), [(200, True), (302, True), (401, True), (404, True)])
    def test_a_refusal_is_final(self, status, is_final):
        assert endings.is_final_status(status) is is_final

    @pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504, 599])
    def test_a_refusal_for_now_is_not(self, status):
        assert not endings.is_final_status(status)

    @pytest.mark.parametrize(
        ("body", "said"),
        [
            (b'{"error": {"code": 103, "message": "members only"}}', "HTTP 403 Forbidden: members only"),
            (b'{"error": "plain"}', "HTTP 403 Forbidden: plain"),
            (b"<html>", "HTTP 403 Forbidden"),
            (b'{"error": {}}', "HTTP 403 Forbidden"),
            (b"[]", "HTTP 403 Forbidden"),
        ],
    )
    def test_the_reason_of_a_refusal_is_the_servers_own_where_there_is_one(self, body, said):
        assert endings.describe_refusal(403, body) == said

    def test_an_unknown_status_is_named_by_its_number(self):
        assert endings.describe_refusal(599, b"") == "HTTP 599"
        assert endings.hint_for(599) == ""

    @pytest.mark.parametrize(
        ("code", "reason", "said"),
        [
            (3507, "permission denied", "closed by the server with 3507 (permission denied)"),
            (1009, "", "closed by the server with 1009 (message too big)"),
            (1000, "", "closed by the server with 1000 (no reason given)"),
        ],
    )
    def test_a_close_is_said_with_code_and_reason(self, code, reason, said):
        assert endings.describe_close(code, reason) == said


class TestLines:
    def cut(self, *chunks: bytes, longest: int = 100) -> list[object]:
        lines = Lines(longest)
        return [line for chunk in chunks for line in lines.cut(chunk)] + list(lines.last())

    def test_lines_are_whole_wherever_the_chunks_are_cut(self):
        text = "山\r\n\n彦 echo".encode()
        for place in range(len(text)):
            assert self.cut(text[:place], text[place:]) == ["山", "", "彦 echo"]

    def test_a_byte_order_mark_is_no_part_of_the_first_line(self):
        assert self.cut(b"\xef\xbb\xbfone\n\xef\xbb\xbftwo") == ["one", "\ufefftwo"]

    def test_a_line_without_end_is_dropped_and_told_and_the_next_one_is_whole(self):
        first, second = self.cut(b"x" * 60, b"x" * 60, b"x\nnext\n")
        assert isinstance(first, UnusableLine)
        assert "line 1 is not sent: longer than 100 bytes" in first.reason
        assert second == "next"


class TestScreen:
    @pytest.mark.parametrize(
        ("message", "line"),
        [("text", "text"), (None, "null"), ({"a": ["山", 1.5]}, '{"a":["山",1.5]}'), (["\x1b"], '["\\u001b"]')],
    )
    def test_a_message_that_is_no_text_is_compact_json(self, message, line):
        assert message_line(message) == line

    def test_who_came_and_went_is_said(self):
        assert presence_line(Presence(("alice", "bob"), ("carol",))) == "here: alice, bob; gone: carol"

    def test_a_long_message_is_quoted_by_its_beginning(self):
        assert len(quoted("x" * 1000)) == 62
