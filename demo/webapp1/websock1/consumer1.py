from yamabiko import RoomConsumer


class Websock1Consumer(RoomConsumer):
    room_name = "room1"
