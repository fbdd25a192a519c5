/* The members: non-blocking sockets from connect() over the handshake and a protocol's own greeting to open. */
#pragma once
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>
#ifdef WITH_ZLIB
#include <zlib.h>
#endif

#include "options.h"
#include "sha1.h"
#include "tally.h"
#include "websocket.h"

#define BUFFER_SIZE (1 << 18)
#define MEMBERS_PER_ADDRESS 25000
#define KEY "eWFtYWJpa28gYmVuY2ggIQ=="

typedef enum { CONNECTING, UPGRADING, GREETING, OPEN, STALLED, CLOSED } Stage;
typedef enum { LISTENER, PUBLISHER, BYSTANDER } Role;

typedef struct {
    int fd, room;
    Stage stage;
    Role role;
    bool stalls; /* stops reading once it is in */
    int step; /* of the greeting */
    Tally tally;
    uint8_t *unread; /* the beginning of a frame whose rest has not come yet */
    size_t unread_length;
    bool may_deflate, keeps_window;
    void *inflater;
} Member;

static struct {
    uint64_t pings, deflated_frames, frames, reads;
    int closed, open, close_code;
} seen;

static int poller;
static uint8_t buffer[BUFFER_SIZE];
static double received_at; /* by the kernel's clock; 0 where nobody asked for it */

static void on_text(Member *member, const uint8_t *text, size_t length);

static void send_all(Member *member, const void *bytes, size_t length) {
    const char *rest = bytes;
    while (length) {
        ssize_t sent = send(member->fd, rest, length, MSG_NOSIGNAL);
        if (sent < 0 && errno == EAGAIN) {
            struct pollfd writable = {.fd = member->fd, .events = POLLOUT};
            if (poll(&writable, 1, 10000) < 1) fail("the server has not read for 10 s");
            continue;
        }
        if (sent < 0) fail("cannot send to the server: %s", strerror(errno));
        rest += sent;
        length -= sent;
    }
}

static void send_frame(Member *member, int opcode, const void *payload, size_t length) {
    uint8_t frame[4096];
    if (length > sizeof frame - LONGEST_HEADER) fail("a control or greeting frame of %zu bytes is too long", length);
    send_all(member, frame, write_client_frame(frame, opcode, payload, length));
}

/* Put `room` in the place of each {room} of `template`. */
static void fill_room(char *out, size_t size, const char *template, int room) {
    size_t used = 0;
    for (const char *from = template; *from && used + 12 < size;) {
        if (strncmp(from, "{room}", 6)) out[used++] = *from++;
        else used += snprintf(out + used, size - used, "%d", room), from += 6;
    }
    out[used] = 0;
}

/* Return the next line of the cookie file, round and round; empty without one. */
static const char *next_cookie(void) {
    static FILE *file;
    static char line[2048];
    if (!options.cookies) return "";
    if (!file && !(file = fopen(options.cookies, "r"))) fail("cannot read %s: %s", options.cookies, strerror(errno));
    if (!fgets(line, sizeof line, file)) {
        rewind(file);
        if (!fgets(line, sizeof line, file)) fail("%s holds no cookie", options.cookies);
    }
    line[strcspn(line, "\r\n")] = 0;
    return line;
}

static void start_connecting(Member *member, int index) {
    member->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (member->fd < 0) fail("cannot open socket %d: %s", index, strerror(errno));
    int yes = 1, small = 4096;
    setsockopt(member->fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    if (member->role == BYSTANDER) setsockopt(member->fd, SOL_SOCKET, SO_TIMESTAMPNS, &yes, sizeof yes);
    if (member->stalls) setsockopt(member->fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
    setsockopt(member->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &yes, sizeof yes);
    struct sockaddr_in from = {.sin_family = AF_INET}, to = {.sin_family = AF_INET, .sin_port = htons(options.port)};
    from.sin_addr.s_addr = htonl(INADDR_LOOPBACK + index / MEMBERS_PER_ADDRESS);
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (bind(member->fd, (void *)&from, sizeof from)) fail("cannot bind: %s", strerror(errno));
    if (connect(member->fd, (void *)&to, sizeof to) && errno != EINPROGRESS) fail("connect: %s", strerror(errno));
    struct epoll_event event = {.events = EPOLLOUT, .data.ptr = member};
    epoll_ctl(poller, EPOLL_CTL_ADD, member->fd, &event);
}

static void ask_for_upgrade(Member *member) {
    int error = 0;
    socklen_t size = sizeof error;
    getsockopt(member->fd, SOL_SOCKET, SO_ERROR, &error, &size);
    if (error) fail("connect: %s", strerror(error));
    char path[512], request[4096];
    const char *template = member->role == PUBLISHER ? options.publish_path : options.path, *cookie = next_cookie();
    fill_room(path, sizeof path, template, member->room);
    int length = snprintf(
        request, sizeof request,
        "GET %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: " KEY "\r\nSec-WebSocket-Version: 13\r\nOrigin: http://127.0.0.1:%d\r\n%s%s%s%s\r\n",
        path, options.port, options.port, *cookie ? "Cookie: " : "", cookie, *cookie ? "\r\n" : "",
        options.deflate ? "Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover; "
                          "client_no_context_takeover\r\n"
                        : "");
    send_all(member, request, length);
    /* Edge-triggered: the kernel then does not ask every socket again whether there is still something to read. */
    struct epoll_event event = {.events = EPOLLIN | EPOLLRDHUP | EPOLLET, .data.ptr = member};
    epoll_ctl(poller, EPOLL_CTL_MOD, member->fd, &event);
}

static void greet(Member *member) {
    while (member->step < options.step_count) {
        char text[1024];
        fill_room(text, sizeof text, options.steps[member->step].say, member->room);
        send_frame(member, TEXT, text, strlen(text));
        if (options.steps[member->step].await) return;
        member->step++;
    }
    member->stage = member->stalls ? STALLED : OPEN;
    seen.open++;
    if (member->stalls) epoll_ctl(poller, EPOLL_CTL_DEL, member->fd, 0);
}

/* Take the answer to the upgrade from the front of `bytes`; return its length, 0 while it is not complete. */
static size_t take_upgrade(Member *member, uint8_t *bytes, size_t length) {
    static char expected[ACCEPT_LENGTH + 1];
    if (!*expected) accept_of(KEY, expected);
    uint8_t *end = memmem(bytes, length, "\r\n\r\n", 4);
    if (!end) return 0;
    if (strncmp((char *)bytes, "HTTP/1.1 101 ", 13)) fail("the handshake was refused: %.*s", (int)length, bytes);
    end[2] = 0;
    if (!strstr((char *)bytes, expected)) fail("a wrong Sec-WebSocket-Accept: %.600s", bytes);
    member->may_deflate = strstr((char *)bytes, "permessage-deflate");
    member->keeps_window = !strstr((char *)bytes, "server_no_context_takeover");
    member->stage = GREETING;
    greet(member);
    return end + 4 - bytes;
}

#ifdef WITH_ZLIB
/* Members mostly get the same bytes: what stands alone is inflated once and then recognized. */
static const uint8_t *inflated(Member *member, const uint8_t *payload, size_t *length) {
    static uint8_t text[1 << 17], known[1 << 16];
    static size_t known_length, known_text_length;
    static z_stream *shared;
    if (!member->keeps_window && *length == known_length && !memcmp(payload, known, known_length)) {
        *length = known_text_length;
        return text;
    }
    known_length = *length <= sizeof known && !member->keeps_window ? *length : 0;
    memcpy(known, payload, known_length);
    z_stream **stream = member->keeps_window ? (z_stream **)&member->inflater : &shared;
    if (!*stream) {
        *stream = calloc(1, sizeof **stream);
        inflateInit2(*stream, -15);
    } else if (!member->keeps_window) inflateReset(*stream);
    uint8_t *ending = (uint8_t *)payload + *length, saved[4], tail[4] = {0, 0, 0xff, 0xff};
    memcpy(saved, ending, 4); /* what follows in the buffer; it has room for more than was read */
    memcpy(ending, tail, 4);
    (*stream)->next_in = (uint8_t *)payload;
    (*stream)->avail_in = *length + 4;
    (*stream)->next_out = text;
    (*stream)->avail_out = sizeof text;
    int outcome = inflate(*stream, Z_SYNC_FLUSH);
    memcpy(ending, saved, 4);
    if (outcome != Z_OK && outcome != Z_STREAM_END && outcome != Z_BUF_ERROR) fail("a frame that does not inflate");
    *length = known_text_length = sizeof text - (*stream)->avail_out;
    return text;
}
#else
static const uint8_t *inflated(Member *member, const uint8_t *payload, size_t *length) {
    (void)member, (void)payload, (void)length;
    fail("this load was built without zlib and cannot read a deflated frame");
    return 0;
}
#endif

static void member_closed(Member *member) {
    if (member->stage < OPEN) fail("the server closed connection %d of %d while it was opening", seen.open, options.members);
    epoll_ctl(poller, EPOLL_CTL_DEL, member->fd, 0);
    close(member->fd);
    member->stage = CLOSED;
    seen.closed++;
}

static void take_frame(Member *member, FrameHeader *header, const uint8_t *payload) {
    size_t length = header->length;
    seen.frames++;
    if (header->opcode == PING) {
        seen.pings++;
        send_frame(member, PONG, payload, length);
    } else if (header->opcode == CLOSE) {
        seen.close_code = length >= 2 ? payload[0] << 8 | payload[1] : 1005;
    } else if (header->opcode == TEXT || header->opcode == BINARY) {
        if (!header->is_final) fail("a server that splits its messages is not understood");
        seen.deflated_frames += header->is_deflated;
        if (header->is_deflated) payload = inflated(member, payload, &length);
        on_text(member, payload, length);
    }
}

/* Take every complete frame from the front of `bytes`; return how many bytes that were. */
static size_t take_frames(Member *member, uint8_t *bytes, size_t length) {
    size_t taken = 0;
    FrameHeader header;
    while (member->stage != CLOSED && read_header(bytes + taken, length - taken, &header)) {
        size_t size = header.header_length + header.length;
        if (size > BUFFER_SIZE / 2) fail("a frame of %zu bytes is longer than anything that was sent", header.length);
        if (length - taken < size) break;
        take_frame(member, &header, bytes + taken + header.header_length);
        taken += size;
    }
    return taken;
}

static void keep_unread(Member *member, const uint8_t *bytes, size_t length) {
    if (length) {
        member->unread = realloc(member->unread, length);
        memcpy(member->unread, bytes, length);
    } else if (member->unread_length) {
        free(member->unread);
        member->unread = 0;
    }
    member->unread_length = length;
}

/* As recv(), and note when the kernel got the bytes: this program's own delays then do not count. */
static ssize_t receive_stamped(int fd, void *into, size_t size) {
    char control[128];
    struct iovec part = {into, size};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    ssize_t got = recvmsg(fd, &message, 0);
    received_at = seconds_of(CLOCK_REALTIME);
    for (struct cmsghdr *note = CMSG_FIRSTHDR(&message); got > 0 && note; note = CMSG_NXTHDR(&message, note))
        if (note->cmsg_level == SOL_SOCKET && note->cmsg_type == SCM_TIMESTAMPNS) {
            struct timespec stamp;
            memcpy(&stamp, CMSG_DATA(note), sizeof stamp);
            received_at = stamp.tv_sec + stamp.tv_nsec * 1e-9;
        }
    return got;
}

/* Read once; true if there may be more. */
static bool read_some(Member *member) {
    size_t length = member->unread_length;
    if (length) memcpy(buffer, member->unread, length);
    size_t room = BUFFER_SIZE - 4 - length; /* 4: see inflated() */
    ssize_t got = member->role == BYSTANDER ? receive_stamped(member->fd, buffer + length, room)
                                            : recv(member->fd, buffer + length, room, 0);
    if (got < 0 && errno == EAGAIN) return false;
    if (got < 0 && errno == EINTR) return true;
    if (got <= 0) {
        member_closed(member);
        return false;
    }
    seen.reads++;
    length += got;
    size_t taken = member->stage == UPGRADING ? take_upgrade(member, buffer, length) : 0;
    if (member->stage != UPGRADING) taken += take_frames(member, buffer + taken, length - taken);
    keep_unread(member, buffer + taken, length - taken);
    return member->stage != CLOSED && (size_t)got == room;
}

static void on_event(Member *member, uint32_t events) {
    bool is_ending = events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR);
    if (member->stage != CONNECTING) {
        while (read_some(member) || (is_ending && member->stage != CLOSED && member->stage != STALLED)) continue;
        return;
    }
    member->stage = UPGRADING;
    ask_for_upgrade(member);
}

static void raise_descriptor_limit(int wanted) {
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    struct rlimit higher = {wanted + 64, limit.rlim_max > (rlim_t)wanted + 64 ? limit.rlim_max : (rlim_t)wanted + 64};
    if (limit.rlim_cur >= higher.rlim_cur) return;
    if (setrlimit(RLIMIT_NOFILE, &higher)) fail("%d connections need 'ulimit -n %d' or more", wanted, wanted + 64);
}
