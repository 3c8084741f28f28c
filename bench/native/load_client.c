/* Reads HTTP/1.1 answers as they come, piece by piece, and the events of streams in them. */
#define _GNU_SOURCE
#include "load_client.h"

#include <strings.h>

enum { LONGEST_HEAD = 65536 };

const char *const OUTCOMES[OUTCOME_COUNT] = {"ok", "refused", "unanswered", "status", "error_event", "cut", "timed_out"};

void begin_request(struct client *client, uint64_t now)
{
    client->is_busy = 1;
    client->sent = 0;
    client->began_ns = now;
    client->first_byte_ns = client->first_token_ns = 0;
    client->part = HEAD;
    client->head.used = client->line.used = 0;
    client->status = client->closes = client->saw_done = client->saw_error = 0;
}

/* When the piece of text was made, if it says so as in `@1234567890@`, else 0. */
static uint64_t made_at(const char *line, size_t length)
{
    for (const char *at = memchr(line, '@', length); at != NULL; at = memchr(at, '@', length - (size_t)(at - line))) {
        const char *digits = ++at;
        uint64_t made = 0;
        while (at < line + length && *at >= '0' && *at <= '9')
            made = made * 10 + (uint64_t)(*at++ - '0');
        if (at < line + length && *at == '@' && at - digits > 8)
            return made;
    }
    return 0;
}

/* A whole line of the body: an event of a stream, or a piece of an answer. */
static void read_line(struct client *client, const char *line, size_t length, uint64_t now)
{
    static const char data[] = "data: ", content[] = "\"content\":";
    if (!client->is_stream || length < sizeof data || memcmp(line, data, sizeof data - 1) != 0)
        return;
    if (line[sizeof data - 1] == '[') {
        client->saw_done = 1;
        return;
    }
    const char *found = memmem(line, length, content, sizeof content - 1);
    if (found == NULL) {
        client->saw_error |= memmem(line, length, "\"error\":", 8) != NULL;
        return;
    }
    found += sizeof content - 1;
    found += *found == ' ';
    if (found[0] != '"' || found[1] == '"')
        return; /* null or empty */
    if (client->first_token_ns == 0) {
        client->first_token_ns = now;
        note_first_token(now - client->began_ns);
    }
    note_token(made_at(line, length), now);
}

static void read_body(struct client *client, const char *at, size_t count, uint64_t now)
{
    const char *end = at + count, *newline;
    while (at < end && (newline = memchr(at, '\n', (size_t)(end - at))) != NULL) {
        if (client->line.used > 0) {
            bytes_append(&client->line, at, (size_t)(newline - at));
            read_line(client, client->line.at, client->line.used, now);
            client->line.used = 0;
        } else
            read_line(client, at, (size_t)(newline - at), now);
        at = newline + 1;
    }
    if (at < end)
        bytes_append(&client->line, at, (size_t)(end - at));
}

static int has_field(const char *head, const char *field)
{
    return strcasestr(head, field) != NULL;
}

static enum reading read_head(struct client *client)
{
    char *head = client->head.at;
    const char *length = strcasestr(head, "\r\ncontent-length:");
    client->status = client->head.used > 12 ? atoi(head + 9) : 0;
    client->closes = has_field(head, "\r\nconnection: close");
    client->head.used = 0;
    if (client->status == 100)
        return MORE;
    if (has_field(head, "\r\ntransfer-encoding: chunked")) {
        client->part = CHUNK_SIZE;
        client->left = 0;
    } else if (length != NULL) {
        client->part = SIZED_BODY;
        client->left = strtol(length + strlen("\r\ncontent-length:"), NULL, 10);
        return client->left == 0 ? WHOLE : MORE;
    } else {
        client->part = BODY_UNTIL_CLOSE;
        client->closes = 1;
    }
    return MORE;
}

static int hex_digit(char letter)
{
    if (letter >= '0' && letter <= '9')
        return letter - '0';
    letter |= 0x20;
    return letter >= 'a' && letter <= 'f' ? letter - 'a' + 10 : -1;
}

/* One byte of the framing: of a chunk's size line, of what ends it, or of the trailer. */
static enum reading read_framing(struct client *client, char letter)
{
    if (client->part == CHUNK_SIZE) {
        if (letter == '\n') {
            client->part = client->left > 0 ? CHUNK : TRAILER;
            client->head.used = 0;
        } else if (hex_digit(letter) >= 0)
            client->left = client->left * 16 + hex_digit(letter);
        else if (letter != '\r')
            return BROKEN;
    } else if (client->part == CHUNK_END) {
        if (letter == '\n')
            client->part = CHUNK_SIZE;
    } else if (letter == '\n') {
        if (client->head.used == 0)
            return WHOLE;
        client->head.used = 0;
    } else if (letter != '\r')
        bytes_append(&client->head, &letter, 1);
    return MORE;
}

enum reading read_answer(struct client *client, const char *at, size_t count, uint64_t now)
{
    const char *end = at + count;
    enum reading reading = MORE;
    if (client->first_byte_ns == 0)
        client->first_byte_ns = now;
    while (at < end && reading == MORE) {
        if (client->part == HEAD) {
            bytes_append(&client->head, at++, 1);
            if (client->head.used >= 4 && memcmp(client->head.at + client->head.used - 4, "\r\n\r\n", 4) == 0)
                reading = read_head(client);
            else if (client->head.used > LONGEST_HEAD)
                reading = BROKEN;
        } else if (client->part == BODY_UNTIL_CLOSE) {
            read_body(client, at, (size_t)(end - at), now);
            at = end;
        } else if (client->part == CHUNK || client->part == SIZED_BODY) {
            size_t here = end - at < client->left ? (size_t)(end - at) : (size_t)client->left;
            read_body(client, at, here, now);
            at += here;
            client->left -= (long)here;
            if (client->left == 0 && client->part == SIZED_BODY)
                reading = WHOLE;
            else if (client->left == 0)
                client->part = CHUNK_END;
        } else
            reading = read_framing(client, *at++);
    }
    return reading;
}

enum outcome outcome_of_whole(const struct client *client)
{
    if (client->status != 200)
        return STATUS;
    if (!client->is_stream)
        return OK;
    if (client->saw_error)
        return ERROR_EVENT;
    return client->saw_done ? OK : CUT;
}

enum outcome outcome_at_end(const struct client *client)
{
    if (!client->has_connected)
        return REFUSED;
    if (client->first_byte_ns == 0)
        return UNANSWERED;
    return client->part == BODY_UNTIL_CLOSE ? outcome_of_whole(client) : CUT;
}
