/* What server processes and their children cost, seen from outside: CPU time and resident memory. */
#pragma once
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <dirent.h>
#include <sys/types.h>

#define MOST_PROCESSES 64

static pid_t watched[MOST_PROCESSES];
static int watched_count;

static double seconds_of(clockid_t clock) {
    struct timespec time;
    return clock_gettime(clock, &time) ? 0 : time.tv_sec + time.tv_nsec * 1e-9;
}

static double now(void) { return seconds_of(CLOCK_MONOTONIC); }

/* The CPU clock of a process has nanoseconds where /proc/PID/stat has hundredths, and counts ended threads too. */
static double process_cpu_seconds(pid_t pid) {
    clockid_t clock;
    return clock_getcpuclockid(pid, &clock) ? 0 : seconds_of(clock);
}

static double process_resident_kib(pid_t pid) {
    char path[64], line[256];
    double kib = 0;
    snprintf(path, sizeof path, "/proc/%d/smaps_rollup", (int)pid);
    FILE *file = fopen(path, "r");
    if (!file) {
        snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
        file = fopen(path, "r");
    }
    if (!file) return 0;
    while (fgets(line, sizeof line, file))
        if (sscanf(line, "Rss: %lf", &kib) == 1 || sscanf(line, "VmRSS: %lf", &kib) == 1) break;
    fclose(file);
    return kib;
}

static void watch(pid_t pid);

static void watch_children_of_thread(pid_t pid, const char *thread) {
    char path[320];
    int child;
    snprintf(path, sizeof path, "/proc/%d/task/%s/children", (int)pid, thread);
    FILE *file = fopen(path, "r");
    if (!file) return;
    while (fscanf(file, "%d", &child) == 1) watch(child);
    fclose(file);
}

/* Watch a process and all that it has started so far. */
static void watch(pid_t pid) {
    if (watched_count == MOST_PROCESSES) return;
    watched[watched_count++] = pid;
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/task", (int)pid);
    DIR *threads = opendir(path);
    if (!threads) return;
    for (struct dirent *entry; (entry = readdir(threads));)
        if (entry->d_name[0] != '.') watch_children_of_thread(pid, entry->d_name);
    closedir(threads);
}

static double server_cpu_seconds(void) {
    double sum = 0;
    for (int i = 0; i < watched_count; i++) sum += process_cpu_seconds(watched[i]);
    return sum;
}

static double server_resident_kib(void) {
    double sum = 0;
    for (int i = 0; i < watched_count; i++) sum += process_resident_kib(watched[i]);
    return sum;
}
