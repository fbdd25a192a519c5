"""The pages of the site, and one view that speaks into a room itself."""

from collections.abc import Mapping
from urllib.parse import quote

from django.contrib.auth import login
from django.contrib.auth.decorators import user_passes_test
from django.contrib.auth.forms import UserCreationForm
from django.contrib.auth.views import RedirectURLMixin
from django.forms import CharField, Form, IntegerField
from django.http import HttpRequest, HttpResponse
from django.http.request import split_domain_port
from django.shortcuts import redirect, render
from django.utils.translation import gettext_lazy as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe
from django.views.generic import CreateView

import yamabiko
from webapp1.websock1.rooms import LONGEST_MESSAGE
from yamabiko.core.errors import Refusal
from yamabiko.django.rooms import registry

FIRST_ROOM = "room1"

# What the page's script says. It puts its values where the braces are.
WORDS = {
    "connecting": _("Connecting"),
    "live": _("Live"),
    "waiting": _("Reconnecting in {seconds} s"),
    "lost": _("Connection lost, reconnecting"),
    "closed": _("Closed by the server: {reason}"),
    "gap": _("Messages may be missing here: the room does not keep them."),
    "you": _("You"),
    "guest": _("Guest"),
    "announcement": _("Announcement"),
    "sending": _("Sending"),
    "refused": _("Not published: {reason}"),
    "retry": _("Try again"),
    "edit": _("Edit"),
    "newer": _("New messages: {count}"),
    "tooLong": _("{length} characters; at most {longest}"),
    "here": _("{count} here"),
    "me": _("{name} (you)"),
    "guests": _("Guests: {count}"),
    "more": _("and {count} more"),
}

# What the page of two rooms says beside that.
MORE_WORDS = {
    "announcement": _("Dice"),
    "rolled": _("{name} rolled {number} (1 to {sides})"),
    "left": _("You have left. Come in again to hear what you missed."),
    "leave": _("Leave"),
    "enter": _("Come in"),
}
TOGETHER = {"echo/valley": _("Valley"), "echo/summit": _("Summit")}


def is_declared(room: str) -> bool:
    """Tell whether a Room class has this room, in whatever app it is."""
    try:
        registry.room(room)
    except Refusal:
        return False
    return True


class RoomNumber(Form):
    number = IntegerField(min_value=1, max_value=9999)


class Announcement(Form):
    text = CharField(max_length=LONGEST_MESSAGE)


@never_cache
@require_safe
def room_page(request: HttpRequest, room: str) -> HttpResponse:
    if not is_declared(room):
        return render(request, "no_room.html", {"room": room}, status=404)
    return render(request, "room.html", room_context(request, room))


def room_context(request: HttpRequest, room: str) -> Mapping[str, object]:
    socket = "/websock1/" if room == FIRST_ROOM else f"/rooms/{quote(room)}/"
    return {
        "room": room,
        "socket": socket,
        "longest_message": LONGEST_MESSAGE,
        "command": connect_command(request, room, socket),
        "words": WORDS,
    }


def connect_command(request: HttpRequest, room: str, socket: str) -> str:
    """Return what to type in a terminal to come into the room, as short as it can be."""
    host, port = split_domain_port(request.get_host())
    if request.is_secure() or host not in {"localhost", "127.0.0.1"}:
        scheme = "wss" if request.is_secure() else "ws"
        return f"yamabiko connect --url {scheme}://{request.get_host()}{socket}"
    at_port = "" if port == "8000" else f" --port {port or 80}"
    into_room = "" if room == FIRST_ROOM else f" --room {room}"
    return f"yamabiko connect{at_port}{into_room}"


@never_cache
@require_safe
def together(request: HttpRequest) -> HttpResponse:
    """Show two rooms that share one connection."""
    context = {"rooms": TOGETHER, "longest_message": LONGEST_MESSAGE, "words": WORDS | MORE_WORDS}
    return render(request, "together.html", context)


@require_safe
def go_to_room(request: HttpRequest) -> HttpResponse:
    form = RoomNumber(request.GET)
    return redirect("room", f"room{form.cleaned_data['number']}") if form.is_valid() else redirect("room1")


@require_POST
@user_passes_test(lambda user: user.is_staff)
def announce(request: HttpRequest, room: str) -> HttpResponse:
    """Speak into a room from an ordinary view: to browsers, terminals and programs alike."""
    form = Announcement(request.POST)
    if form.is_valid() and is_declared(room):
        yamabiko.publish(room, {"announcement": form.cleaned_data["text"]})
    return redirect("room", room)


@require_safe
def health(request: HttpRequest) -> HttpResponse:
    return HttpResponse("ok", content_type="text/plain")


class SignUp(RedirectURLMixin, CreateView):
    form_class = UserCreationForm
    template_name = "registration/sign_up.html"
    next_page = "room1"

    def get_context_data(self, **context: object) -> dict[str, object]:
        return super().get_context_data(next=self.get_redirect_url(), **context)

    def form_valid(self, form: UserCreationForm) -> HttpResponse:
        login(self.request, form.save())
        return redirect(self.get_success_url())
