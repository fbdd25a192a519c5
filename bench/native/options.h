/* What the load generator is told: one struct, filled from the command line. */
#pragma once
#include <getopt.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "process.h"

#define MOST_STEPS 4
#define MOST_IN_FLIGHT 64

typedef struct {
    const char *say, *await;
} Step;

static struct {
    int port, members, rooms, together, in_flight, size, warm_up_connections, at_least;
    double rate, bystander_rate, seconds, warm_up_seconds, settle_seconds, idle_seconds, patience_seconds, stalled_percent;
    bool deflate;
    const char *path, *publish_path, *message, *cookies, *app_ping, *app_pong;
    Step steps[MOST_STEPS];
    int step_count;
} options = {
    .members = 1000, .rooms = 1, .together = 50, .in_flight = 1, .size = 100, .warm_up_connections = 10, .at_least = 5,
    .warm_up_seconds = 0.3, .settle_seconds = 0.5, .patience_seconds = 30,
    .path = "/", .message = "{text}",
};

/* Exit codes: 1 the load could not be run, 2 wrong usage, 3 copies were lost, doubled, disordered or misrouted. */
static void fail(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    _exit(1); /* half an answer is none: what stdout holds is not written */
}

static const char USAGE[] =
    "load --port PORT --pid PID [--pid PID ...]\n"
    "  --members N --rooms R         N connections, spread over R rooms [1000, 1]\n"
    "  --path P --publish-path P     where members and, if elsewhere, publishers connect; {room} is the room's number\n"
    "  --say TEXT --await TEXT       after the handshake: send, wait for a frame that holds; repeatable, in this order\n"
    "  --message TEXT                what is published: {text} is the numbered text, {room} the room's number\n"
    "  --answer PING=PONG            answer the text PING with PONG, as some protocols above WebSocket ask\n"
    "  --cookies FILE                Cookie headers, one a line, taken in turn\n"
    "  --deflate                     offer permessage-deflate\n"
    "  --together K                  handshakes at once [50]\n"
    "  --warm-up-connections N       opened and closed before anything is measured [10]\n"
    "  --settle S --idle S           wait before memory is read [0.5]; then hold the connections\n"
    "  --seconds S --warm-up S       publish for so long [0: only connect]; before that unmeasured [0.3]\n"
    "  --at-least N                  go on beyond --seconds until N messages are published [5]\n"
    "  --in-flight W                 messages on their way at once, over all rooms, at most 64 [1]\n"
    "  --rate HZ                     publish so often instead; --in-flight is then the most on their way\n"
    "  --size BYTES                  of each numbered text [100]\n"
    "  --stalled PERCENT             so many members of a room never read\n"
    "  --bystander HZ                one more member, alone in another room, talks to itself so often\n"
    "  --patience S                  how long to wait for handshakes and for the last copy [30]\n";

static void usage(const char *complaint) {
    fprintf(stderr, "%s\n%s", complaint, USAGE);
    exit(2);
}

static void read_answer(char *pair) {
    char *split = strchr(pair, '=');
    if (!split) usage("--answer expects PING=PONG");
    *split = 0;
    options.app_ping = pair;
    options.app_pong = split + 1;
}

static void add_step(const char *say) {
    if (options.step_count == MOST_STEPS) usage("too many --say");
    options.steps[options.step_count++] = (Step){.say = say};
}

static void set_await(const char *text) {
    if (!options.step_count) usage("--await follows a --say");
    options.steps[options.step_count - 1].await = text;
}

static const struct option NAMES[] = {
    {"port", 1, 0, 'p'}, {"pid", 1, 0, 'k'}, {"members", 1, 0, 'n'}, {"rooms", 1, 0, 'r'}, {"path", 1, 0, 'u'},
    {"publish-path", 1, 0, 'P'}, {"say", 1, 0, 's'}, {"await", 1, 0, 'a'}, {"message", 1, 0, 'm'},
    {"answer", 1, 0, 'A'}, {"cookies", 1, 0, 'c'}, {"deflate", 0, 0, 'd'}, {"together", 1, 0, 't'},
    {"warm-up-connections", 1, 0, 'C'}, {"settle", 1, 0, 'S'}, {"idle", 1, 0, 'i'}, {"seconds", 1, 0, 'T'},
    {"warm-up", 1, 0, 'W'}, {"in-flight", 1, 0, 'w'}, {"at-least", 1, 0, 'L'}, {"rate", 1, 0, 'R'}, {"size", 1, 0, 'z'},
    {"stalled", 1, 0, 'l'}, {"bystander", 1, 0, 'b'}, {"patience", 1, 0, 'g'}, {0},
};

static void read_options(int count, char **values) {
    for (int name; (name = getopt_long(count, values, "", NAMES, 0)) != -1;) switch (name) {
        case 'p': options.port = atoi(optarg); break;
        case 'k': watch(atoi(optarg)); break;
        case 'n': options.members = atoi(optarg); break;
        case 'r': options.rooms = atoi(optarg); break;
        case 'u': options.path = optarg; break;
        case 'P': options.publish_path = optarg; break;
        case 's': add_step(optarg); break;
        case 'a': set_await(optarg); break;
        case 'm': options.message = optarg; break;
        case 'A': read_answer(optarg); break;
        case 'c': options.cookies = optarg; break;
        case 'd': options.deflate = true; break;
        case 't': options.together = atoi(optarg); break;
        case 'C': options.warm_up_connections = atoi(optarg); break;
        case 'S': options.settle_seconds = atof(optarg); break;
        case 'i': options.idle_seconds = atof(optarg); break;
        case 'T': options.seconds = atof(optarg); break;
        case 'W': options.warm_up_seconds = atof(optarg); break;
        case 'w': options.in_flight = atoi(optarg); break;
        case 'L': options.at_least = atoi(optarg); break;
        case 'R': options.rate = atof(optarg); break;
        case 'z': options.size = atoi(optarg); break;
        case 'l': options.stalled_percent = atof(optarg); break;
        case 'b': options.bystander_rate = atof(optarg); break;
        case 'g': options.patience_seconds = atof(optarg); break;
        default: usage("unknown option");
    }
    if (!options.port) usage("--port is missing");
    if (options.members < 1 || options.rooms < 1 || options.rooms > options.members)
        usage("expected 1 <= rooms <= members");
    if (options.in_flight < 1 || options.in_flight > MOST_IN_FLIGHT) usage("--in-flight is 1 to 64");
    if (options.together < 1) usage("--together is at least 1");
    if (options.size < 24 || options.size > 60000) usage("--size is 24 to 60000");
}
