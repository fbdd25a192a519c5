// Many clients in one process, driven by lines of JSON: {id, client, do, with} in, {id, result | error} and
// {client, event, room, said} out. Payloads are JSON on both sides, whatever format a client has on the wire.

import { createInterface } from "node:readline";
import { Centrifuge as JsonClient } from "centrifuge";
import { Centrifuge as ProtobufClient } from "centrifuge/build/protobuf";
import WebSocket from "ws";

const RECONNECT = { minReconnectDelay: 20, maxReconnectDelay: 100 };
const RESUBSCRIBE = { minResubscribeDelay: 20, maxResubscribeDelay: 100 };

const clients = new Map();

class Driven {
  constructor(name, { url, protobuf, token, tokens, headers }) {
    this.name = name;
    this.protobuf = protobuf;
    this.wanted = new Map();
    this.kind = protobuf ? ProtobufClient : JsonClient;
    this.sdk = new this.kind(url, {
      ...RECONNECT,
      token,
      getToken: tokens ? this.giver(tokens, "") : null,
      websocket: socketWith(headers),
    });
    this.tellEvents(this.sdk, [
      "connecting", "connected", "disconnected", "message", "error", "subscribing", "subscribed", "unsubscribed",
      "publication", "join", "leave",
    ]);
  }

  tellEvents(emitter, names, room = "") {
    for (const event of names) {
      emitter.on(event, (said) => tell({ client: this.name, event, room: said.channel || room, said: this.plain(said) }));
    }
  }

  // Tokens are handed out one after the other, null never comes; then there is none any more.
  giver(tokens, room) {
    return async () => {
      tell({ client: this.name, event: "token wanted", room, said: {} });
      if (!tokens.length) throw new this.kind.UnauthorizedError("no token is left");
      return tokens.shift() ?? new Promise(() => {});
    };
  }

  encoded(data) {
    return this.protobuf ? new TextEncoder().encode(JSON.stringify(data)) : data;
  }

  decoded(data) {
    if (!this.protobuf) return data ?? null;
    return data?.length ? JSON.parse(new TextDecoder().decode(data)) : null;
  }

  // The words of the protocol in place of the SDK's own.
  plain(said) {
    const { code, reason, error, recoverable, positioned, wasRecovering, recovered, streamPosition, offset, tags } = said;
    const plain = {
      client: said.client, code, reason, recoverable, positioned, was_recovering: wasRecovering, recovered,
      position: streamPosition, offset, tags,
    };
    if ("data" in said) plain.data = this.decoded(said.data);
    if (said.info) plain.info = this.info(said.info);
    if (error) Object.assign(plain, { code: error.code, message: error.message });
    return plain;
  }

  info({ client, user, connInfo, chanInfo }) {
    return { client, user, conn_info: this.decoded(connInfo), chan_info: this.decoded(chanInfo) };
  }

  connect() {
    this.sdk.connect();
  }

  disconnect() {
    this.sdk.disconnect();
  }

  subscribe({ room, token, tokens, join_leave: joinLeave, has_state: hasState }) {
    const options = { ...RESUBSCRIBE, token, joinLeave, getToken: tokens ? this.giver(tokens, room) : null };
    if (hasState) options.getState = () => this.state(room);
    const subscription = this.sdk.getSubscription(room) ?? this.sdk.newSubscription(room, options);
    if (!subscription.isTold) {
      subscription.isTold = true;
      const names = ["subscribing", "subscribed", "unsubscribed", "publication", "join", "leave", "error"];
      this.tellEvents(subscription, names, room);
    }
    subscription.subscribe();
  }

  state(room) {
    tell({ client: this.name, event: "state wanted", room, said: {} });
    return new Promise((resolve) => this.wanted.set(room, resolve));
  }

  give_state({ room, position }) {
    this.wanted.get(room)(position);
  }

  unsubscribe({ room }) {
    this.sdk.getSubscription(room).unsubscribe();
  }

  async publish({ room, data }) {
    await this.sdk.publish(room, this.encoded(data));
  }

  async rpc({ method, data }) {
    return this.decoded((await this.sdk.rpc(method, this.encoded(data))).data);
  }

  async history({ room, limit, since, reverse }) {
    const { publications, offset, epoch } = await this.sdk.history(room, { limit, reverse, ...(since && { since }) });
    return { publications: publications.map((each) => this.plain(each)), offset, epoch };
  }

  async presence({ room }) {
    const { clients: present } = await this.sdk.presence(room);
    return Object.fromEntries(Object.entries(present).map(([client, info]) => [client, this.info(info)]));
  }

  async presence_stats({ room }) {
    const { numClients, numUsers } = await this.sdk.presenceStats(room);
    return { clients: numClients, users: numUsers };
  }
}

function socketWith(headers) {
  return class extends WebSocket {
    constructor(url, protocols) {
      super(url, protocols, { headers });
    }
  };
}

function tell(line) {
  process.stdout.write(`${JSON.stringify(line)}\n`);
}

async function obey({ id, client, do: verb, with: options }) {
  try {
    if (verb === "make") clients.set(client, new Driven(client, options));
    const result = verb === "make" ? null : await clients.get(client)[verb](options);
    if (verb === "disconnect") clients.delete(client);
    tell({ id, client, result: result ?? null });
  } catch (error) {
    tell({ id, client, error: { code: error.code ?? -1, message: String(error.message ?? error) } });
  }
}

createInterface({ input: process.stdin }).on("line", (line) => obey(JSON.parse(line)));
