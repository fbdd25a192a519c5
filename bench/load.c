/* A load of WebSocket members on one server, from one process.
 *
 * What it costs itself (own_cpu_us_per_copy) is, nearly all of it, the kernel receiving a copy and acknowledging it.
 * Connects members, lets some publish numbered texts, and checks that every member gets every number of its room once and
 * in order. Prints one line of JSON: what the server's processes cost (CPU, memory) and how long the last copy took.
 * Exits with 3 if a copy was lost, doubled, disordered or in the wrong room.
 *
 * Built by `python -m bench`; by hand: cc -O2 -o load load.c, with -DWITH_ZLIB -lz for --deflate.
 */
#define _GNU_SOURCE
#include "native/traffic.h"

typedef struct {
    double cpu, resident, time;
    uint64_t copies, published;
} Snapshot;

static Member *members;
static int member_count; /* publishers of their own and the bystander included */

static Snapshot snapshot(void) {
    return (Snapshot){server_cpu_seconds(), server_resident_kib(), now(), copies, published};
}

static bool is_stalled(int index_in_room) {
    return (int)((index_in_room + 1) * options.stalled_percent / 100) > (int)(index_in_room * options.stalled_percent / 100);
}

static void plan_members(void) {
    int own_publishers = options.publish_path ? options.rooms : 0, has_bystander = options.bystander_rate > 0;
    member_count = options.members + own_publishers + has_bystander;
    members = calloc(member_count + own_publishers, sizeof *members);
    rooms = calloc(options.rooms + 1, sizeof *rooms);
    for (int i = 0; i < options.members; i++) {
        Room *room = &rooms[members[i].room = i % options.rooms];
        members[i].stalls = is_stalled(i / options.rooms);
        room->members += !members[i].stalls;
        if (!room->publisher && !members[i].stalls) room->publisher = &members[i];
    }
    for (int i = 0; i < own_publishers; i++) {
        Member *publisher = &members[options.members + i];
        *publisher = (Member){.role = PUBLISHER, .room = i};
        rooms[i].publisher = publisher;
    }
    if (has_bystander) {
        Member *bystander = &members[options.members + own_publishers];
        *bystander = (Member){.role = BYSTANDER, .room = options.rooms};
        rooms[options.rooms] = (Room){.publisher = bystander, .members = 1, .is_bystanders = true};
        if (own_publishers) { /* where members cannot publish, neither can the bystander */
            members[member_count] = (Member){.role = PUBLISHER, .room = options.rooms};
            rooms[options.rooms].publisher = &members[member_count++];
        }
    }
    for (int i = 0; i < options.rooms + has_bystander; i++) prepare_frame(&rooms[i], i);
}

/* Open members [from, to), so many at once; fail if that takes longer than patience allows. */
static void open_members(int from, int to, int together) {
    int started = from, open_before = seen.open, nothing_since = 0;
    double progress = now();
    while (seen.open - open_before < to - from) {
        while (started < to && started - from - (seen.open - open_before) < together) {
            start_connecting(&members[started], started);
            started++;
        }
        int open = seen.open;
        handle_events(100);
        if (seen.open != open) progress = now(), nothing_since = 0;
        else nothing_since = now() - progress > options.patience_seconds;
        if (nothing_since) fail("%d of %d handshakes are not answered", to - from - (seen.open - open_before), to - from);
    }
}

static void handle_events_for(double seconds) {
    for (double end = now() + seconds; now() < end;) handle_events(20);
}

/* What a server does only once, such as importing and filling caches, is not a connection's cost. */
static void warm_up(void) {
    int count = options.warm_up_connections < options.members ? options.warm_up_connections : options.members;
    if (!count) return;
    open_members(0, count, 1);
    for (int i = 0; i < count; i++) {
        send_frame(&members[i], CLOSE, "\x03\xe8", 2);
        shutdown(members[i].fd, SHUT_WR);
        close(members[i].fd);
        members[i] = (Member){.room = members[i].room, .stalls = members[i].stalls};
    }
    seen.open = 0;
    handle_events_for(0.3);
}

static void count_lost(void) {
    for (int i = 0; i < member_count; i++) {
        Member *member = &members[i];
        if (member->role != PUBLISHER && !member->stalls) faults.lost += rooms[member->room].sent - member->tally.received;
    }
}

static void print_connecting(Snapshot start, Snapshot tenth, Snapshot ninth, Snapshot end, Snapshot settled) {
    int part = member_count / 10 ? member_count / 10 : 1;
    printf("\"connect_cpu_us\":%.2f,\"connect_cpu_us_first_tenth\":%.2f,\"connect_cpu_us_last_tenth\":%.2f,",
           (end.cpu - start.cpu) * 1e6 / member_count, (tenth.cpu - start.cpu) * 1e6 / part,
           (end.cpu - ninth.cpu) * 1e6 / part);
    printf("\"connects_per_second\":%.0f,\"resident_kib_before\":%.0f,\"resident_kib_per_connection\":%.3f,",
           member_count / (end.time - start.time), start.resident, (settled.resident - start.resident) / member_count);
}

static void print_traffic(Snapshot start, Snapshot end, double own_cpu) {
    double sent = end.published - start.published, delivered = end.copies - start.copies, cpu = end.cpu - start.cpu;
    printf("\"published\":%.0f,\"copies\":%.0f,\"copies_per_second\":%.0f,\"cpu_us_per_copy\":%.4f,"
           "\"cpu_us_per_publication\":%.3f,\"own_cpu_us_per_copy\":%.4f,\"cpu_percent\":%.2f,",
           sent, delivered, delivered / (end.time - start.time), delivered ? cpu * 1e6 / delivered : 0,
           sent ? cpu * 1e6 / sent : 0, delivered ? own_cpu * 1e6 / delivered : 0, cpu * 100 / (end.time - start.time));
    printf("\"latency_ms_p50\":%.4f,\"latency_ms_p99\":%.4f,\"latency_ms_max\":%.4f,\"deflated_share\":%.3f,",
           quantile_ms(&latencies, 0.5), quantile_ms(&latencies, 0.99), quantile_ms(&latencies, 1),
           seen.frames ? (double)seen.deflated_frames / seen.frames : 0);
    if (options.bystander_rate)
        printf("\"bystander_ms_p50\":%.4f,\"bystander_ms_p99\":%.4f,\"bystander_ms_max\":%.4f,",
               quantile_ms(&bystander_latencies, 0.5), quantile_ms(&bystander_latencies, 0.99),
               quantile_ms(&bystander_latencies, 1));
}

static void publish_and_report(void) {
    run_traffic(options.warm_up_seconds, 0);
    latencies.count = bystander_latencies.count = seen.deflated_frames = seen.frames = 0;
    Snapshot start = snapshot();
    double own_cpu = seconds_of(CLOCK_PROCESS_CPUTIME_ID);
    if (!in_flight) run_traffic(options.seconds, options.at_least);
    print_traffic(start, snapshot(), seconds_of(CLOCK_PROCESS_CPUTIME_ID) - own_cpu);
    handle_events_for(0.05); /* a second copy comes after the last first one */
}

static void idle_and_report(void) {
    Snapshot start = snapshot();
    handle_events_for(options.idle_seconds);
    Snapshot end = snapshot();
    printf("\"idle_cpu_percent\":%.4f,\"idle_seconds\":%.1f,", (end.cpu - start.cpu) * 100 / (end.time - start.time),
           end.time - start.time);
}

static void connect_and_report(void) {
    int tenth = member_count / 10;
    Snapshot start = snapshot();
    open_members(0, tenth, options.together);
    Snapshot after_tenth = snapshot();
    open_members(tenth, member_count - tenth, options.together);
    Snapshot after_ninth = snapshot();
    open_members(member_count - tenth, member_count, options.together);
    Snapshot end = snapshot();
    handle_events_for(options.settle_seconds);
    print_connecting(start, after_tenth, after_ninth, end, snapshot());
}

int main(int count, char **values) {
    read_options(count, values);
    poller = epoll_create1(0);
    plan_members();
    raise_descriptor_limit(member_count);
    warm_up();
    printf("{\"members\":%d,\"rooms\":%d,", options.members, options.rooms);
    connect_and_report();
    if (options.idle_seconds) idle_and_report();
    if (options.seconds) publish_and_report();
    count_lost();
    printf("\"pings\":%lu,\"closed\":%d,\"close_code\":%d,\"lost\":%lu,\"doubled\":%lu,\"disordered\":%lu,\"misrouted\":%lu}\n",
           seen.pings, seen.closed, seen.close_code, faults.lost, faults.doubled, faults.disordered, faults.misrouted);
    return faults.lost || faults.doubled || faults.disordered || faults.misrouted || seen.closed ? 3 : 0;
}
