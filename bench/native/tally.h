/* Exactly once and in order: what one member has received of its room's sequence numbers 0, 1, 2 ... */
#pragma once
#include <stdbool.h>
#include <stdint.h>

typedef struct {
    uint32_t next;     /* the lowest number that is still missing */
    uint32_t received; /* how many different ones have come */
    uint64_t ahead;    /* bit i: next + 1 + i is here already */
} Tally;

typedef struct {
    uint64_t lost, doubled, disordered, misrouted;
} Faults;

static Faults faults;

static void go_on(Tally *tally) {
    bool is_here;
    do {
        is_here = tally->ahead & 1;
        tally->ahead >>= 1;
        tally->next++;
    } while (is_here);
}

/* Note one copy; false for a second copy. A number that is 64 behind the newest is given up as lost. */
static bool note_copy(Tally *tally, uint32_t number) {
    while (number > tally->next && number - tally->next > 64) go_on(tally);
    if (number < tally->next) {
        faults.doubled++;
        return false;
    }
    if (number == tally->next) {
        faults.disordered += tally->ahead != 0;
        go_on(tally);
    } else {
        uint64_t bit = 1ull << (number - tally->next - 1);
        if (tally->ahead & bit) {
            faults.doubled++;
            return false;
        }
        faults.disordered += tally->ahead > bit;
        tally->ahead |= bit;
    }
    tally->received++;
    return true;
}
