/* A growing buffer, and the clock. Shared by the mock engine and the load generator. */
#ifndef LORRY_BYTES_H
#define LORRY_BYTES_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct bytes {
    char *at;
    size_t used, room;
};

/* CLOCK_MONOTONIC in nanoseconds, the clock of Python's time.monotonic(). */
static inline uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* There is room for `more` bytes and a final NUL behind what is used. */
static inline void bytes_reserve(struct bytes *buffer, size_t more)
{
    if (buffer->used + more + 1 <= buffer->room)
        return;
    buffer->room = 2 * (buffer->used + more + 1);
    buffer->at = realloc(buffer->at, buffer->room);
    if (buffer->at == NULL) {
        fputs("out of memory\n", stderr);
        exit(1);
    }
}

static inline void bytes_append(struct bytes *buffer, const char *from, size_t count)
{
    bytes_reserve(buffer, count);
    memcpy(buffer->at + buffer->used, from, count);
    buffer->used += count;
    buffer->at[buffer->used] = '\0';
}

/* The first `count` bytes are gone. */
static inline void bytes_drop(struct bytes *buffer, size_t count)
{
    buffer->used -= count;
    memmove(buffer->at, buffer->at + count, buffer->used);
}

#endif
