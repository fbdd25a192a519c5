// A Socket.IO server with rooms, on Node. Usage: node socket_io.js PORT DEFLATE
"use strict";

const http = require("http");
const { Server } = require("socket.io");

const [port, isDeflated] = process.argv.slice(2).map(Number);
const server = http.createServer();
const io = new Server(server, {
  transports: ["websocket"],
  perMessageDeflate: isDeflated ? { serverNoContextTakeover: true } : false,
});

io.on("connection", (socket) => {
  socket.on("join", (room) => {
    socket.join(room);
    socket.emit("joined");
  });
  socket.on("say", (room, text) => io.to(room).emit("said", text));
});
server.listen({ host: "127.0.0.1", port, backlog: 4096 });
