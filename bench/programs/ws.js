// A broadcast server on `ws`: a room is a path. Usage: node ws.js PORT DEFLATE
"use strict";

const { WebSocketServer } = require("ws");

const [port, isDeflated] = process.argv.slice(2).map(Number);
const perMessageDeflate = isDeflated ? { serverNoContextTakeover: true } : false;
const rooms = new Map();

const server = new WebSocketServer({ host: "127.0.0.1", port, perMessageDeflate, backlog: 4096 });
server.on("connection", (socket, request) => {
  if (!rooms.has(request.url)) rooms.set(request.url, new Set());
  const members = rooms.get(request.url);
  members.add(socket);
  socket.on("message", (data) => {
    for (const member of members) member.send(data, { binary: false });
  });
  socket.on("close", () => members.delete(socket));
  socket.on("error", () => socket.terminate());
});
