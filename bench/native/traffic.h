/* The traffic: numbered texts into the rooms, every copy checked, the time from publishing to the last copy kept. */
#pragma once
#include <sys/timerfd.h>

#include "members.h"

#define MARK "~@"
#define NUMBERED_LENGTH 18 /* the mark, 6 digits of the room, 10 digits of the sequence number */

typedef struct {
    double *values;
    size_t count, capacity;
} Samples;

typedef struct {
    double began;
    int missing; /* copies */
} Flight;

typedef struct {
    Member *publisher;
    int members;
    uint32_t sent;
    uint8_t *frame;
    size_t frame_length, number_at;
    bool is_bystanders;
    Flight flights[MOST_IN_FLIGHT];
} Room;

static Room *rooms;
static Samples latencies, bystander_latencies;
static uint64_t copies, published;
static int in_flight, bystander_in_flight;

static void add_sample(Samples *samples, double value) {
    if (samples->count == samples->capacity) {
        samples->capacity = samples->capacity ? samples->capacity * 2 : 4096;
        samples->values = realloc(samples->values, samples->capacity * sizeof *samples->values);
    }
    samples->values[samples->count++] = value;
}

static int by_size(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double quantile_ms(Samples *samples, double share) {
    if (!samples->count) return 0;
    qsort(samples->values, samples->count, sizeof *samples->values, by_size);
    return samples->values[(size_t)((samples->count - 1) * share + 0.5)] * 1e3;
}

/* Words of random letters: neither as easy to compress as one repeated letter nor as hard as noise. */
static void fill_with_words(char *text, size_t length) {
    uint32_t state = 12345;
    for (size_t i = 0; i < length; i++) {
        state = state * 1103515245 + 12345;
        text[i] = state >> 28 ? 'a' + (state >> 16) % 26 : ' ';
    }
}

/* Make a room's frame once; publishing then only writes the digits of the next number into it. */
static void prepare_frame(Room *room, int number) {
    char template[1024], *text = malloc(options.size + 1), *message = malloc(options.size + 1024);
    snprintf(text, options.size + 1, MARK "%06d%010d", number, 0);
    fill_with_words(text + NUMBERED_LENGTH, options.size - NUMBERED_LENGTH);
    text[options.size] = 0;
    fill_room(template, sizeof template, options.message, number);
    char *place = strstr(template, "{text}");
    if (!place) usage("--message holds no {text}");
    int length = sprintf(message, "%.*s%s%s", (int)(place - template), template, text, place + 6);
    room->frame = malloc(length + LONGEST_HEADER);
    room->frame_length = write_client_frame(room->frame, TEXT, message, length);
    room->number_at = room->frame_length - length + (place - template) + NUMBERED_LENGTH - 10;
    free(text);
    free(message);
}

static void publish(Room *room, double began) {
    char digits[11];
    snprintf(digits, sizeof digits, "%010u", room->sent);
    memcpy(room->frame + room->number_at, digits, 10);
    room->flights[room->sent % MOST_IN_FLIGHT] = (Flight){began, room->members};
    room->sent++;
    if (room->is_bystanders) bystander_in_flight++;
    else in_flight++, published++;
    send_all(room->publisher, room->frame, room->frame_length);
}

static void on_last_copy(Room *room, Flight *flight) {
    if (room->is_bystanders) {
        bystander_in_flight--;
        add_sample(&bystander_latencies, received_at - flight->began);
    } else {
        in_flight--;
        add_sample(&latencies, now() - flight->began);
    }
}

static void on_copy(Member *member, int room_number, uint32_t number) {
    Room *room = &rooms[member->room];
    if (room_number != member->room || number >= room->sent) {
        faults.misrouted++;
        return;
    }
    if (!note_copy(&member->tally, number)) return;
    if (!room->is_bystanders) copies++;
    Flight *flight = &room->flights[number % MOST_IN_FLIGHT];
    if (--flight->missing == 0) on_last_copy(room, flight);
}

static uint32_t read_digits(const uint8_t *digits, int count) {
    uint32_t number = 0;
    for (int i = 0; i < count; i++) number = number * 10 + (digits[i] - '0');
    return number;
}

static void find_copies(Member *member, const uint8_t *text, size_t length) {
    const uint8_t *end = text + length, *at = text;
    while (end - at >= NUMBERED_LENGTH && (at = memmem(at, end - at, MARK, 2)) && end - at >= NUMBERED_LENGTH) {
        on_copy(member, read_digits(at + 2, 6), read_digits(at + 8, 10));
        at += NUMBERED_LENGTH;
    }
}

static void on_text(Member *member, const uint8_t *text, size_t length) {
    if (member->stage == GREETING) {
        const char *awaited = options.steps[member->step].await;
        if (memmem(text, length, awaited, strlen(awaited))) {
            member->step++;
            greet(member);
        }
    } else if (options.app_ping && length == strlen(options.app_ping) && !memcmp(text, options.app_ping, length)) {
        seen.pings++;
        send_frame(member, TEXT, options.app_pong, strlen(options.app_pong));
    } else if (member->role != PUBLISHER) find_copies(member, text, length);
}

/* Read what comes within so many milliseconds. Timers have no member; they only end the wait. */
static void handle_events(int milliseconds) {
    struct epoll_event events[256];
    int count = epoll_wait(poller, events, 256, milliseconds);
    for (int i = 0; i < count; i++)
        if (events[i].data.ptr) on_event(events[i].data.ptr, events[i].events);
}

static int new_timer(double rate) {
    if (!rate) return -1;
    long nanoseconds = (long)(1e9 / rate);
    struct timespec interval = {nanoseconds / 1000000000, nanoseconds % 1000000000};
    int timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
    timerfd_settime(timer, 0, &(struct itimerspec){interval, interval}, 0);
    epoll_ctl(poller, EPOLL_CTL_ADD, timer, &(struct epoll_event){.events = EPOLLIN, .data.ptr = 0});
    return timer;
}

static uint64_t ticks_of(int timer) {
    uint64_t ticks = 0;
    return timer >= 0 && read(timer, &ticks, sizeof ticks) == sizeof ticks ? ticks : 0;
}

static Room *next_room(void) {
    static int next;
    return &rooms[next++ % options.rooms];
}

static void publish_bystander(int timer) {
    if (ticks_of(timer) && bystander_in_flight < MOST_IN_FLIGHT)
        publish(&rooms[options.rooms], seconds_of(CLOCK_REALTIME));
}

/* Publish for so many seconds and wait until every copy is there. A message that could not go out when it was due,
 * because too many were on their way, is late from that moment on: a server that is behind shows it. */
static void run_traffic(double seconds, int at_least) {
    int timer = new_timer(options.rate), bystander_timer = new_timer(options.bystander_rate);
    double began = now(), end = began + seconds, last_try = end + options.patience_seconds;
    uint64_t due = 0, taken = 0;
    for (;;) {
        double time = now();
        bool goes_on = time < end || taken < (uint64_t)at_least;
        if ((!goes_on && !in_flight && !bystander_in_flight) || time > last_try) break;
        if (goes_on) {
            due += ticks_of(timer);
            publish_bystander(bystander_timer);
            while (in_flight < options.in_flight && (timer < 0 || taken < due)) {
                taken++;
                publish(next_room(), timer < 0 ? now() : began + taken / options.rate);
            }
        } else ticks_of(timer), ticks_of(bystander_timer);
        handle_events(goes_on ? 1 : 20);
    }
    close(timer);
    close(bystander_timer);
}
