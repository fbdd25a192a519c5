/* The floor: the least that a fan-out with one send() per copy can cost on this machine.
 *
 * One epoll loop. A room is a path; each text frame goes to everybody in its room, publisher included, with one send()
 * each. No rights, no history, no queue: who does not take a copy at once is closed. It pings nobody.
 *
 * Built by `python -m bench`; by hand: cc -O2 -o floor floor.c && ./floor PORT
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "native/sha1.h"
#include "native/websocket.h"

#define BUFFER_SIZE (1 << 17)
#define ROOM_SLOTS (1 << 16)

typedef struct {
    char *path;
    int *members; /* descriptors */
    int count, capacity;
} Room;

typedef struct {
    Room *room; /* NULL until the handshake is done */
    int seat;   /* in room->members */
    uint8_t *unread;
    size_t unread_length;
} Peer;

static Room rooms[ROOM_SLOTS];
static Peer *peers; /* by descriptor */
static int peer_capacity, poller;
static uint8_t buffer[BUFFER_SIZE], copy[BUFFER_SIZE + LONGEST_HEADER];

static void stop(const char *what) {
    perror(what);
    exit(1);
}

static Room *room_at(const char *path) {
    uint32_t slot = 2166136261u;
    for (const char *letter = path; *letter; letter++) slot = (slot ^ (uint8_t)*letter) * 16777619u;
    for (int tries = 0; tries < ROOM_SLOTS; tries++) {
        Room *room = &rooms[(slot + tries) % ROOM_SLOTS];
        if (!room->path) room->path = strdup(path);
        if (!strcmp(room->path, path)) return room;
    }
    fputs("too many rooms\n", stderr);
    exit(1);
}

static void join(int fd, Room *room) {
    if (room->count == room->capacity) {
        room->capacity = room->capacity ? room->capacity * 2 : 16;
        room->members = realloc(room->members, room->capacity * sizeof *room->members);
    }
    peers[fd].room = room;
    peers[fd].seat = room->count;
    room->members[room->count++] = fd;
}

static void leave(int fd) {
    Peer *peer = &peers[fd];
    if (peer->room) {
        int last = peer->room->members[--peer->room->count];
        peer->room->members[peer->seat] = last;
        peers[last].seat = peer->seat;
    }
    free(peer->unread);
    *peer = (Peer){0};
    close(fd);
}

/* Send all or nothing of use: a peer that does not take a whole frame ends, in its own turn, by the hangup. */
static void send_copy(int fd, const uint8_t *bytes, size_t length) {
    if (send(fd, bytes, length, MSG_NOSIGNAL | MSG_DONTWAIT) != (ssize_t)length) shutdown(fd, SHUT_RDWR);
}

static void fan_out(Room *room, int opcode, const uint8_t *payload, size_t length) {
    size_t header_length = write_server_header(copy, opcode, length);
    memcpy(copy + header_length, payload, length);
    for (int i = 0; i < room->count; i++) send_copy(room->members[i], copy, header_length + length);
}

static void answer(int fd, int opcode, const uint8_t *payload, size_t length) {
    size_t header_length = write_server_header(copy, opcode, length);
    memcpy(copy + header_length, payload, length);
    send_copy(fd, copy, header_length + length);
}

static void unmask(uint8_t *payload, const FrameHeader *header) {
    for (size_t i = 0; header->is_masked && i < header->length; i++) payload[i] ^= header->mask[i & 3];
}

static size_t take_frames(int fd, uint8_t *bytes, size_t length) {
    size_t taken = 0;
    FrameHeader header;
    while (read_header(bytes + taken, length - taken, &header)) {
        if (header.header_length + header.length > BUFFER_SIZE / 2) {
            shutdown(fd, SHUT_RDWR);
            return length;
        }
        if (length - taken < header.header_length + header.length) break;
        uint8_t *payload = bytes + taken + header.header_length;
        unmask(payload, &header);
        if (header.opcode == TEXT || header.opcode == BINARY) fan_out(peers[fd].room, header.opcode, payload, header.length);
        else if (header.opcode == PING) answer(fd, PONG, payload, header.length);
        else if (header.opcode == CLOSE) answer(fd, CLOSE, payload, header.length), shutdown(fd, SHUT_WR);
        taken += header.header_length + header.length;
    }
    return taken;
}

static size_t take_upgrade(int fd, uint8_t *bytes, size_t length) {
    char path[512], key[65], accept[ACCEPT_LENGTH + 1], response[256];
    uint8_t *end = memmem(bytes, length, "\r\n\r\n", 4);
    if (!end) return 0;
    *end = 0;
    const char *key_line = strcasestr((char *)bytes, "\r\nSec-WebSocket-Key:");
    if (!key_line || sscanf(key_line + 20, " %64s", key) != 1 || sscanf((char *)bytes, "GET %511s", path) != 1) {
        static const char refusal[] = "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
        send_copy(fd, (const uint8_t *)refusal, sizeof refusal - 1);
        shutdown(fd, SHUT_RDWR);
        return length;
    }
    accept_of(key, accept);
    int size = snprintf(response, sizeof response,
                        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                        "Sec-WebSocket-Accept: %s\r\n\r\n",
                        accept);
    send_copy(fd, (uint8_t *)response, size);
    join(fd, room_at(path));
    return end + 4 - bytes;
}

static void keep_unread(Peer *peer, const uint8_t *bytes, size_t length) {
    if (length) {
        peer->unread = realloc(peer->unread, length);
        memcpy(peer->unread, bytes, length);
    } else if (peer->unread_length) {
        free(peer->unread);
        peer->unread = 0;
    }
    peer->unread_length = length;
}

static void read_peer(int fd) {
    size_t length = peers[fd].unread_length;
    if (length) memcpy(buffer, peers[fd].unread, length);
    ssize_t got = recv(fd, buffer + length, sizeof buffer - length, MSG_DONTWAIT);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (got <= 0) {
        leave(fd);
        return;
    }
    length += got;
    size_t taken = peers[fd].room ? 0 : take_upgrade(fd, buffer, length);
    if (peers[fd].room) taken += take_frames(fd, buffer + taken, length - taken);
    keep_unread(&peers[fd], buffer + taken, length - taken);
}

static void admit(int listener) {
    int yes = 1, fd = accept4(listener, 0, 0, SOCK_CLOEXEC);
    if (fd < 0) return;
    if (fd >= peer_capacity) {
        int capacity = fd * 2 + 64;
        peers = realloc(peers, capacity * sizeof *peers);
        memset(peers + peer_capacity, 0, (capacity - peer_capacity) * sizeof *peers);
        peer_capacity = capacity;
    }
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    epoll_ctl(poller, EPOLL_CTL_ADD, fd, &(struct epoll_event){.events = EPOLLIN, .data.fd = fd});
}

static int listening_socket(int port) {
    int yes = 1, listener = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    struct sockaddr_in here = {.sin_family = AF_INET, .sin_port = htons(port)};
    here.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (bind(listener, (void *)&here, sizeof here)) stop("bind");
    if (listen(listener, 4096)) stop("listen");
    return listener;
}

int main(int count, char **values) {
    if (count != 2) {
        fputs("usage: floor PORT\n", stderr);
        return 2;
    }
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    int listener = listening_socket(atoi(values[1]));
    poller = epoll_create1(0);
    epoll_ctl(poller, EPOLL_CTL_ADD, listener, &(struct epoll_event){.events = EPOLLIN, .data.fd = listener});
    for (struct epoll_event events[256];;) {
        int ready = epoll_wait(poller, events, 256, -1);
        for (int i = 0; i < ready; i++) {
            if (events[i].data.fd == listener) admit(listener);
            else read_peer(events[i].data.fd);
        }
    }
}
