/* The mock engine's connections, which mock_openai.c moves, and its answers, which mock_answers.c makes. */
#ifndef LORRY_MOCK_OPENAI_H
#define LORRY_MOCK_OPENAI_H

#include "bytes.h"

enum fault { NONE, HANG, DEAF, ERROR, BUSY, TRICKLE, CUT };

struct port {
    int listener;
    enum fault fault;
    long cut_after; /* chunks */
    unsigned long requests, chunks, aborted;
    int running;
};

struct connection {
    int fd;
    struct port *port;
    struct bytes in, out;
    int is_answering, is_stream, has_head, with_usage, waits_to_write, is_closed;
    long left, made; /* chunks */
    uint64_t due_ns, pace_ns;
    unsigned long number;    /* of the answer */
    struct connection *next; /* of those that are answering, or of the closed ones */
};

/* mock_openai.c */
extern const char *model;
void begin_answering(struct connection *connection);
void stop_answering(struct connection *connection);
void flush_out(struct connection *connection);

/* mock_answers.c */
void dispatch(struct connection *connection, const char *path, const char *body);
void answer(struct connection *connection, const char *status, const char *type, const char *body);
void make_next_part(struct connection *connection);

#endif
