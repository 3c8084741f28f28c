/* A mock inference server with vLLM's face, for measuring gateways and for trying them.
 *
 *     mock_openai --port N [--port N ...] [--model NAME]
 *
 * One process, one thread, one epoll loop; every port is an engine of its own. `max_tokens` is the number of chunks of a
 * stream, one send() each. `pace_us=N` in the prompt is the time before every chunk: a gateway may drop fields that it
 * does not know, but no prompt. Every chunk carries the time at which it was made, as in `@1234567890@` (nanoseconds).
 *
 * POST /control sets the port's fault, as in `fault=cut after=8`:
 *     none      answers
 *     hang      takes requests and answers nothing more, to those under way neither; /health is fine
 *     deaf      the same, and /health and the others do not answer either
 *     error     answers 500
 *     busy      answers 429
 *     trickle   a chunk a second
 *     cut       closes the connection after `after` chunks, in the middle of the answer
 */
#define _GNU_SOURCE
#include "mock_openai.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { MOST_PORTS = 64, MOST_EVENTS = 256, RECEIVE = 65536, BACKLOG = 1024 };
static const uint64_t SECOND_NS = 1000000000u;

const char *model = "mock";

static int poller;
static struct port ports[MOST_PORTS];
static int port_count;
static struct connection *answering, *closed;

static void watch(struct connection *connection, int how)
{
    struct epoll_event event = {
        .events = EPOLLIN | (connection->waits_to_write ? (uint32_t)EPOLLOUT : 0u), .data.ptr = connection};
    epoll_ctl(poller, how, connection->fd, &event);
}

void begin_answering(struct connection *connection)
{
    connection->is_answering = 1;
    connection->next = answering;
    answering = connection;
    connection->port->running++;
}

void stop_answering(struct connection *connection)
{
    struct connection **link = &answering;
    while (*link != connection)
        link = &(*link)->next;
    *link = connection->next;
    connection->is_answering = 0;
    connection->port->running--;
}

/* The connection is gone; its memory goes at the end of the round, as there may be more events of it. */
static void hang_up(struct connection *connection)
{
    if (connection->is_closed)
        return;
    if (connection->is_answering)
        stop_answering(connection);
    close(connection->fd);
    connection->is_closed = 1;
    connection->next = closed;
    closed = connection;
}

static void forget_closed(void)
{
    while (closed != NULL) {
        struct connection *gone = closed;
        closed = gone->next;
        free(gone->in.at);
        free(gone->out.at);
        free(gone);
    }
}

/* The other side hung up: an answer that was under way is aborted. */
static void lose(struct connection *connection)
{
    connection->port->aborted += (unsigned long)connection->is_answering;
    hang_up(connection);
}

/* Send what is to be sent as far as the socket takes it; the rest follows when it takes more. */
void flush_out(struct connection *connection)
{
    size_t sent = 0;
    while (sent < connection->out.used) {
        ssize_t count = send(connection->fd, connection->out.at + sent, connection->out.used - sent, MSG_NOSIGNAL);
        if (count < 0 && errno == EAGAIN)
            break;
        if (count < 0) {
            lose(connection);
            return;
        }
        sent += (size_t)count;
    }
    bytes_drop(&connection->out, sent);
    if ((connection->out.used > 0) != connection->waits_to_write) {
        connection->waits_to_write = connection->out.used > 0;
        watch(connection, EPOLL_CTL_MOD);
    }
}

/* Length of the first request in what came in, 0 while it is not whole. Its head ends at *end. */
static size_t whole_request(const struct bytes *in, char **end)
{
    *end = strstr(in->at, "\r\n\r\n");
    if (*end == NULL)
        return 0;
    const char *field = strcasestr(in->at, "\r\ncontent-length:");
    size_t body = field == NULL || field > *end ? 0 : strtoul(field + strlen("\r\ncontent-length:"), NULL, 10);
    size_t whole = (size_t)(*end - in->at) + 4 + body;
    return in->used < whole ? 0 : whole;
}

/* Answer what came in, one request at a time. */
static void take_requests(struct connection *connection)
{
    struct bytes *in = &connection->in;
    char *end;
    size_t whole;
    while (!connection->is_closed && !connection->is_answering && in->used > 0 && (whole = whole_request(in, &end)) > 0) {
        char behind = in->at[whole];
        in->at[whole] = '\0';
        char *path = in->at + strcspn(in->at, " ");
        path += strspn(path, " ");
        path[strcspn(path, " ?")] = '\0';
        dispatch(connection, path, end + 4);
        in->at[whole] = behind;
        bytes_drop(in, whole);
        in->at[in->used] = '\0';
    }
}

static void receive(struct connection *connection)
{
    struct bytes *in = &connection->in;
    bytes_reserve(in, RECEIVE);
    ssize_t count = recv(connection->fd, in->at + in->used, RECEIVE, 0);
    if (count < 0 && errno == EAGAIN)
        return;
    if (count <= 0) {
        lose(connection);
        return;
    }
    in->used += (size_t)count;
    in->at[in->used] = '\0';
    take_requests(connection);
}

static void accept_all(struct port *port)
{
    int fd, one = 1;
    while ((fd = accept4(port->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        struct connection *connection = calloc(1, sizeof *connection);
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        connection->fd = fd;
        connection->port = port;
        watch(connection, EPOLL_CTL_ADD);
    }
}

static int stands_still(const struct connection *connection)
{
    return connection->port->fault == HANG || connection->port->fault == DEAF || connection->out.used > 0;
}

/* Make what is due; nanoseconds until something is due again, or -1 when nothing will be by itself. */
static int64_t make_what_is_due(void)
{
    uint64_t now = now_ns();
    int64_t until = -1;
    for (struct connection *connection = answering, *next; connection != NULL; connection = next) {
        next = connection->next;
        if (stands_still(connection))
            continue;
        if (connection->due_ns <= now) {
            if (connection->port->fault == CUT && (!connection->is_stream || connection->made >= connection->port->cut_after)) {
                hang_up(connection);
                continue;
            }
            uint64_t pace = connection->port->fault == TRICKLE ? SECOND_NS : connection->pace_ns;
            connection->due_ns = connection->due_ns + pace > now ? connection->due_ns + pace : now;
            make_next_part(connection);
            if (!connection->is_answering) {
                take_requests(connection);
                continue;
            }
        }
        int64_t wait = connection->due_ns > now ? (int64_t)(connection->due_ns - now) : 0;
        if (until < 0 || wait < until)
            until = wait;
    }
    return answering != NULL && until < 0 ? (int64_t)SECOND_NS / 20 : until;
}

static void listen_on(long number)
{
    struct port *port = &ports[port_count++];
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons((uint16_t)number), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int one = 1;
    port->listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    setsockopt(port->listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(port->listener, (struct sockaddr *)&address, sizeof address) != 0 || listen(port->listener, BACKLOG) != 0) {
        perror("mock_openai: listen");
        exit(1);
    }
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = port};
    epoll_ctl(poller, EPOLL_CTL_ADD, port->listener, &event);
}

static int is_port(const void *pointer)
{
    return (const char *)pointer >= (const char *)ports && (const char *)pointer < (const char *)(ports + MOST_PORTS);
}

int main(int count, char **words)
{
    signal(SIGPIPE, SIG_IGN);
    poller = epoll_create1(EPOLL_CLOEXEC);
    for (int at = 1; at < count; at += 2) {
        if (at + 1 < count && strcmp(words[at], "--port") == 0 && port_count < MOST_PORTS)
            listen_on(strtol(words[at + 1], NULL, 10));
        else if (at + 1 < count && strcmp(words[at], "--model") == 0)
            model = words[at + 1];
        else {
            fprintf(stderr, "usage: mock_openai --port N [--port N ...] [--model NAME]\n");
            return 2;
        }
    }
    struct epoll_event events[MOST_EVENTS];
    for (;;) {
        int64_t until = make_what_is_due();
        struct timespec wait = {.tv_sec = until / (int64_t)SECOND_NS, .tv_nsec = until % (int64_t)SECOND_NS};
        int found = epoll_pwait2(poller, events, MOST_EVENTS, until < 0 ? NULL : &wait, NULL);
        for (int at = 0; at < found; at++) {
            if (is_port(events[at].data.ptr)) {
                accept_all(events[at].data.ptr);
                continue;
            }
            struct connection *connection = events[at].data.ptr;
            if (!connection->is_closed && events[at].events & EPOLLOUT)
                flush_out(connection);
            if (!connection->is_closed && events[at].events & (EPOLLIN | EPOLLHUP | EPOLLERR))
                receive(connection);
        }
        forget_closed();
    }
}
