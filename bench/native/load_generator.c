/* Clients in a closed loop: each sends its next request when the one before has ended. One thread, one epoll loop.
 *
 *     load_generator --port N --model NAME [--key KEY] [--clients 16] [--seconds 3] [--warm-s 0.5] [--finish-s 0]
 *                    [--stream] [--tokens 16] [--pace-us 0] [--prompt-bytes 256] [--timeout-s 60] [--log FILE]
 *
 * Says `measuring` on stderr when the warm-up is over, and at the end one JSON object on stdout: requests by outcome,
 * percentiles in microseconds, and every time to the first token. --log writes a line for each request, also of the
 * warm-up: `began first_byte ended outcome status`, times in seconds as Python's time.monotonic() has them, 0 for never.
 * With --finish-s, requests that are under way at the end may finish. SIGTERM is an early end. A client that failed pauses
 * a tenth of a second.
 */
#define _GNU_SOURCE
#include "load_client.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum { MOST_EVENTS = 256, RECEIVE = 262144, TICK_MS = 20 };
#define PAUSE_NS 100000000u

static struct {
    long port, clients, tokens, pace_us, prompt_bytes;
    double seconds, warm_s, finish_s, timeout_s;
    const char *model, *key, *log;
    int is_stream;
} asked = {.clients = 16, .tokens = 16, .prompt_bytes = 256, .seconds = 3.0, .warm_s = 0.5, .timeout_s = 60.0, .model = "mock"};

static volatile sig_atomic_t is_asked_to_end;
static int poller, is_over;
static long under_way;
static FILE *journal;
static struct client *clients;

static void watch(struct client *client, uint32_t events, int how)
{
    struct epoll_event event = {.events = events, .data.ptr = client};
    epoll_ctl(poller, how, client->fd, &event);
}

static void hang_up(struct client *client)
{
    if (client->fd >= 0)
        close(client->fd);
    client->fd = -1;
}

static void finish(struct client *client, enum outcome outcome)
{
    uint64_t now = now_ns();
    under_way--;
    note_end(client, outcome, now);
    if (journal != NULL)
        fprintf(journal, "%.6f %.6f %.6f %s %d\n", (double)client->began_ns / 1e9, (double)client->first_byte_ns / 1e9,
                (double)now / 1e9, OUTCOMES[outcome], client->status);
    client->is_busy = 0;
    client->not_before_ns = outcome == OK ? 0 : now + PAUSE_NS;
    if (outcome != OK || client->closes || client->sent < client->request.used)
        hang_up(client);
}

static void send_rest(struct client *client)
{
    while (client->sent < client->request.used) {
        ssize_t count = send(client->fd, client->request.at + client->sent, client->request.used - client->sent, MSG_NOSIGNAL);
        if (count < 0 && errno == EAGAIN) {
            watch(client, EPOLLIN | EPOLLOUT, EPOLL_CTL_MOD);
            client->waits_to_write = 1;
            return;
        }
        if (count < 0)
            return; /* reading will say what happened: the answer may have come before the whole request was read */
        client->sent += (size_t)count;
        client->has_connected = 1;
    }
    if (client->waits_to_write)
        watch(client, EPOLLIN, EPOLL_CTL_MOD);
    client->waits_to_write = 0;
}

static void begin(struct client *client)
{
    begin_request(client, now_ns());
    under_way++;
    if (client->fd >= 0) {
        send_rest(client);
        return;
    }
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons((uint16_t)asked.port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int one = 1;
    client->has_connected = 0;
    client->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    setsockopt(client->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (connect(client->fd, (struct sockaddr *)&address, sizeof address) != 0 && errno != EINPROGRESS) {
        finish(client, REFUSED);
        return;
    }
    client->waits_to_write = 1;
    watch(client, EPOLLIN | EPOLLOUT, EPOLL_CTL_ADD);
}

/* Begin again at once where the last request went well: a closed loop has no pause. */
static void go_on(struct client *client)
{
    while (!client->is_busy && !is_over && client->not_before_ns == 0)
        begin(client);
}

static void receive(struct client *client)
{
    static char buffer[RECEIVE];
    ssize_t count = recv(client->fd, buffer, sizeof buffer, 0);
    if (count < 0 && errno == EAGAIN)
        return;
    if (!client->is_busy) {
        hang_up(client); /* the other side closed a connection that was idle */
        return;
    }
    if (count <= 0) {
        finish(client, outcome_at_end(client));
        return;
    }
    enum reading reading = read_answer(client, buffer, (size_t)count, now_ns());
    if (reading == WHOLE)
        finish(client, outcome_of_whole(client));
    else if (reading == BROKEN)
        finish(client, CUT);
}

static void on_event(struct client *client, uint32_t events)
{
    if (client->fd < 0)
        return;
    if (events & EPOLLOUT && client->is_busy)
        send_rest(client);
    if (client->fd >= 0 && events & (EPOLLIN | EPOLLHUP | EPOLLERR))
        receive(client);
    go_on(client);
}

static void end_early(int signal_number)
{
    (void)signal_number;
    is_asked_to_end = 1;
}

/* Whoever paused enough begins again; whoever waited too long gives up. */
static void tick(uint64_t now)
{
    for (long at = 0; at < asked.clients; at++) {
        struct client *client = &clients[at];
        if (client->is_busy && now > client->began_ns + (uint64_t)(asked.timeout_s * 1e9))
            finish(client, TIMED_OUT);
        if (!client->is_busy && now >= client->not_before_ns)
            client->not_before_ns = 0;
        go_on(client);
    }
}

/* For so long, or until it is asked to end; the last part, until all requests have ended. */
static void run_for(double seconds, int until_all_ended)
{
    struct epoll_event events[MOST_EVENTS];
    uint64_t now = now_ns(), ticked = 0, end = now + (uint64_t)(seconds * 1e9);
    while (now < end && !(until_all_ended ? under_way == 0 : is_asked_to_end)) {
        int found = epoll_wait(poller, events, MOST_EVENTS, TICK_MS);
        for (int at = 0; at < found; at++)
            on_event(events[at].data.ptr, events[at].events);
        now = now_ns();
        if (now >= ticked + TICK_MS * 1000000u) {
            tick(now);
            ticked = now;
        }
    }
}

/* Every client has a prompt of its own, as people have. */
static void write_request(struct client *client, long number)
{
    struct bytes body = {0};
    char part[512];
    bytes_append(&body, part, (size_t)snprintf(part, sizeof part,
        "{\"model\":\"%s\",\"messages\":[{\"role\":\"user\",\"content\":\"client %ld pace_us=%ld ", asked.model, number,
        asked.pace_us));
    for (long at = 0; at < asked.prompt_bytes; at++)
        bytes_append(&body, at % 6 == 5 ? " " : &"abcdefghijklmnopqrstuvwxyz"[(at * 7 + number) % 26], 1);
    bytes_append(&body, part, (size_t)snprintf(part, sizeof part,
        "\"}],\"max_tokens\":%ld,\"temperature\":0.7,\"stream\":%s}", asked.tokens, asked.is_stream ? "true" : "false"));
    bytes_append(&client->request, part, (size_t)snprintf(part, sizeof part,
        "POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1:%ld\r\naccept: */*\r\ncontent-type: application/json\r\n"
        "user-agent: load_generator\r\n%s%s%scontent-length: %zu\r\n\r\n", asked.port,
        asked.key ? "authorization: Bearer " : "", asked.key ? asked.key : "", asked.key ? "\r\n" : "", body.used));
    bytes_append(&client->request, body.at, body.used);
    free(body.at);
}

static double processor_s(void)
{
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    return (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) +
           (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
}

static int read_words(int count, char **words)
{
    for (int at = 1; at < count; at++) {
        const char *word = words[at], *value = at + 1 < count ? words[at + 1] : "";
        if (strcmp(word, "--stream") == 0) {
            asked.is_stream = 1;
            continue;
        }
        struct { const char *name; long *number; double *real; const char **text; } known[] = {
            {"--port", &asked.port, 0, 0}, {"--clients", &asked.clients, 0, 0}, {"--tokens", &asked.tokens, 0, 0},
            {"--pace-us", &asked.pace_us, 0, 0}, {"--prompt-bytes", &asked.prompt_bytes, 0, 0},
            {"--seconds", 0, &asked.seconds, 0}, {"--warm-s", 0, &asked.warm_s, 0}, {"--finish-s", 0, &asked.finish_s, 0},
            {"--timeout-s", 0, &asked.timeout_s, 0}, {"--model", 0, 0, &asked.model}, {"--key", 0, 0, &asked.key},
            {"--log", 0, 0, &asked.log}};
        size_t found = 0;
        while (found < sizeof known / sizeof *known && strcmp(word, known[found].name) != 0)
            found++;
        if (found == sizeof known / sizeof *known || at + 1 >= count)
            return 0;
        if (known[found].number)
            *known[found].number = strtol(value, NULL, 10);
        else if (known[found].real)
            *known[found].real = strtod(value, NULL);
        else
            *known[found].text = value;
        at++;
    }
    return asked.port > 0 && asked.clients > 0;
}

int main(int count, char **words)
{
    if (!read_words(count, words)) {
        fprintf(stderr, "load_generator: wrong or missing option; its source says which there are\n");
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    signal(SIGTERM, end_early);
    if (asked.log != NULL && (journal = fopen(asked.log, "w")) == NULL) {
        perror(asked.log);
        return 1;
    }
    poller = epoll_create1(EPOLL_CLOEXEC);
    clients = calloc((size_t)asked.clients, sizeof *clients);
    for (long number = 0; number < asked.clients; number++) {
        clients[number].fd = -1;
        clients[number].is_stream = asked.is_stream;
        write_request(&clients[number], number);
        go_on(&clients[number]);
    }
    run_for(asked.warm_s, 0);
    begin_measuring();
    fprintf(stderr, "measuring\n");
    uint64_t began = now_ns();
    double processor_began_s = processor_s();
    run_for(asked.seconds, 0);
    double seconds = (double)(now_ns() - began) / 1e9, used_s = processor_s() - processor_began_s;
    is_over = 1;
    run_for(asked.finish_s, 1);
    show_results(seconds, used_s);
    return 0;
}
