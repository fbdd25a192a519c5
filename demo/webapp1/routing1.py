from django.urls import path

from webapp1.websock1.consumer1 import Websock1Consumer
from webapp1.websock1.echo1 import Echo1Consumer
from yamabiko import ConnectionConsumer, RoomConsumer

websocket_urlpatterns = [
    path("websock1/", Websock1Consumer.as_asgi()),
    path("rooms/<path:room>/", RoomConsumer.as_asgi()),
    path("connection/websocket", ConnectionConsumer.as_asgi()),
    path("echo1/", Echo1Consumer.as_asgi()),
]
