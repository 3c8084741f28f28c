/* One client of the load generator: its request, what came of it, and what all clients saw together. */
#ifndef LORRY_LOAD_CLIENT_H
#define LORRY_LOAD_CLIENT_H

#include "bytes.h"

enum outcome {
    OK,
    REFUSED,     /* no connection */
    UNANSWERED,  /* the connection ended before the first byte of an answer */
    STATUS,      /* an answer other than 200 */
    ERROR_EVENT, /* a stream that said that it failed */
    CUT,         /* an answer that ended before its end, without a word */
    TIMED_OUT,
    OUTCOME_COUNT
};
extern const char *const OUTCOMES[OUTCOME_COUNT];

enum reading { MORE, WHOLE, BROKEN };
enum part { HEAD, SIZED_BODY, BODY_UNTIL_CLOSE, CHUNK_SIZE, CHUNK, CHUNK_END, TRAILER };

struct client {
    int fd, has_connected, is_busy, is_stream, waits_to_write;
    struct bytes request;
    size_t sent;
    uint64_t began_ns, first_byte_ns, first_token_ns, not_before_ns;

    enum part part;
    struct bytes head, line; /* line: the beginning of a line of the body whose end has not come yet */
    long left;               /* bytes of the body or the chunk */
    int status, closes, saw_done, saw_error;
};

void begin_request(struct client *client, uint64_t now);
enum reading read_answer(struct client *client, const char *at, size_t count, uint64_t now);
enum outcome outcome_of_whole(const struct client *client);
enum outcome outcome_at_end(const struct client *client);

/* load_figures.c */
void begin_measuring(void);
void note_first_token(uint64_t waited_ns);
void note_token(uint64_t made_ns, uint64_t now);
void note_end(const struct client *client, enum outcome outcome, uint64_t now);
void show_results(double seconds, double processor_s);

#endif
