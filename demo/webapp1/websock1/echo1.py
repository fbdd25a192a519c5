"""An ordinary Channels consumer beside the rooms."""

from channels.generic.websocket import AsyncWebsocketConsumer


class Echo1Consumer(AsyncWebsocketConsumer):
    """Say back what was heard, to the one who said it.

    It tells nobody anything new, so it needs no origin check. A consumer that acts for a signed-in user does.
    """

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        await self.send(text_data=text_data, bytes_data=bytes_data)
