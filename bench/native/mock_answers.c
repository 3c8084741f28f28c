/* What the mock engine answers: completions, its metrics, what routers ask a server about itself, and its faults. */
#define _GNU_SOURCE
#include "mock_openai.h"

enum { DEFAULT_CHUNKS = 16, CUT_AFTER = 8, PROMPT_TOKENS = 64 };

static const char *const FAULTS[] = {"none", "hang", "deaf", "error", "busy", "trickle", "cut"};
static unsigned long answers;

void answer(struct connection *connection, const char *status, const char *type, const char *body)
{
    char head[256];
    int length = snprintf(head, sizeof head, "HTTP/1.1 %s\r\ncontent-type: %s\r\ncontent-length: %zu\r\n\r\n", status, type,
                          strlen(body));
    bytes_append(&connection->out, head, (size_t)length);
    bytes_append(&connection->out, body, strlen(body));
    flush_out(connection);
}

/* The head goes out before the first chunk is made, as from servers in Python. */
static void send_head(struct connection *connection)
{
    const char *head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
                       "cache-control: no-cache\r\ntransfer-encoding: chunked\r\n\r\n";
    connection->has_head = 1;
    bytes_append(&connection->out, head, strlen(head));
    flush_out(connection);
}

static int usage_event(const struct connection *connection, char *event, size_t room)
{
    return snprintf(event, room,
                    "data: {\"id\":\"chatcmpl-%016lx\",\"object\":\"chat.completion.chunk\",\"created\":1763900000,"
                    "\"model\":\"%s\",\"choices\":[],\"usage\":{\"prompt_tokens\":%d,\"completion_tokens\":%ld,"
                    "\"total_tokens\":%ld}}\n\n",
                    connection->number, model, PROMPT_TOKENS, connection->made + 1, connection->made + 1 + PROMPT_TOKENS);
}

/* The next chunk of a stream in one send(), the last one with the end of the stream behind it. */
static void make_chunk(struct connection *connection)
{
    char event[2048], framed[2304];
    int is_last = connection->left == 1;
    if (!connection->has_head)
        send_head(connection);
    int length = snprintf(
        event, sizeof event,
        "data: {\"id\":\"chatcmpl-%016lx\",\"object\":\"chat.completion.chunk\",\"created\":1763900000,\"model\":\"%s\","
        "\"choices\":[{\"index\":0,\"delta\":{%s\"content\":\"@%llu@ \"},\"logprobs\":null,\"finish_reason\":%s}]}\n\n",
        connection->number, model, connection->made == 0 ? "\"role\":\"assistant\"," : "", (unsigned long long)now_ns(),
        is_last ? "\"stop\"" : "null");
    if (is_last && connection->with_usage)
        length += usage_event(connection, event + length, sizeof event - (size_t)length);
    if (is_last)
        length += snprintf(event + length, sizeof event - (size_t)length, "data: [DONE]\n\n");
    int whole = snprintf(framed, sizeof framed, "%x\r\n%s\r\n%s", length, event, is_last ? "0\r\n\r\n" : "");
    connection->left--;
    connection->made++;
    connection->port->chunks++;
    if (is_last)
        stop_answering(connection);
    bytes_append(&connection->out, framed, (size_t)whole);
    flush_out(connection);
}

static void make_whole_answer(struct connection *connection)
{
    struct bytes body = {0};
    char part[512];
    long tokens = connection->left;
    stop_answering(connection);
    int length = snprintf(part, sizeof part,
                          "{\"id\":\"chatcmpl-%016lx\",\"object\":\"chat.completion\",\"created\":1763900000,\"model\":\"%s\","
                          "\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\"@%llu@",
                          connection->number, model, (unsigned long long)now_ns());
    bytes_append(&body, part, (size_t)length);
    for (long token = 0; token < tokens; token++)
        bytes_append(&body, " word", 5);
    length = snprintf(part, sizeof part,
                      "\"},\"logprobs\":null,\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":%d,"
                      "\"completion_tokens\":%ld,\"total_tokens\":%ld}}",
                      PROMPT_TOKENS, tokens, tokens + PROMPT_TOKENS);
    bytes_append(&body, part, (size_t)length);
    answer(connection, "200 OK", "application/json", body.at);
    free(body.at);
}

void make_next_part(struct connection *connection)
{
    if (connection->is_stream)
        make_chunk(connection);
    else
        make_whole_answer(connection);
}

/* The number behind `key` and `"`, `:`, `=` or blanks, else `otherwise`. */
static long number_after(const char *text, const char *key, long otherwise)
{
    const char *found = strstr(text, key);
    if (found == NULL)
        return otherwise;
    found += strlen(key);
    return strtol(found + strspn(found, "\": ="), NULL, 10);
}

static int says_true(const char *body, const char *key)
{
    const char *found = strstr(body, key);
    if (found == NULL)
        return 0;
    found += strlen(key);
    return strncmp(found + strspn(found, ": "), "true", 4) == 0;
}

static void begin_completion(struct connection *connection, const char *body)
{
    struct port *port = connection->port;
    long most = number_after(body, "\"max_completion_tokens\"", DEFAULT_CHUNKS);
    port->requests++;
    if (port->fault == ERROR || port->fault == BUSY) {
        answer(connection, port->fault == ERROR ? "500 Internal Server Error" : "429 Too Many Requests", "application/json",
               "{\"error\":{\"message\":\"scripted\",\"type\":\"scripted\",\"param\":null,\"code\":null}}");
        return;
    }
    connection->number = ++answers;
    connection->left = number_after(body, "\"max_tokens\"", most);
    connection->left = connection->left < 1 ? 1 : connection->left;
    connection->made = 0;
    connection->has_head = 0;
    connection->is_stream = says_true(body, "\"stream\"");
    connection->with_usage = says_true(body, "\"include_usage\"");
    connection->pace_ns = 1000u * (uint64_t)number_after(body, "pace_us=", 0);
    connection->due_ns = now_ns() + connection->pace_ns * (uint64_t)(connection->is_stream ? 1 : connection->left);
    begin_answering(connection);
    if (connection->is_stream && port->fault != HANG && port->fault != DEAF)
        send_head(connection);
}

static void control(struct connection *connection, const char *body)
{
    const char *named = strstr(body, "fault=");
    for (size_t fault = 0; named != NULL && fault < sizeof FAULTS / sizeof *FAULTS; fault++)
        if (strncmp(named + strlen("fault="), FAULTS[fault], strlen(FAULTS[fault])) == 0) {
            connection->port->fault = (enum fault)fault;
            connection->port->cut_after = number_after(body, "after=", CUT_AFTER);
            answer(connection, "200 OK", "text/plain", FAULTS[fault]);
            return;
        }
    answer(connection, "400 Bad Request", "text/plain", "no such fault");
}

static void show_metrics(struct connection *connection)
{
    char text[1024];
    const struct port *port = connection->port;
    snprintf(text, sizeof text,
             "# TYPE vllm:num_requests_running gauge\nvllm:num_requests_running{model_name=\"%s\"} %d\n"
             "# TYPE vllm:num_requests_waiting gauge\nvllm:num_requests_waiting{model_name=\"%s\"} 0\n"
             "# TYPE mock_requests_total counter\nmock_requests_total %lu\n"
             "# TYPE mock_chunks_total counter\nmock_chunks_total %lu\n"
             "# TYPE mock_aborted_total counter\nmock_aborted_total %lu\n",
             model, port->running, model, port->requests, port->chunks, port->aborted);
    answer(connection, "200 OK", "text/plain; version=0.0.4", text);
}

/* What routers ask a server about itself before they use it. */
static void describe(struct connection *connection, const char *path)
{
    char text[1024] = "";
    if (strcmp(path, "/v1/models") == 0)
        snprintf(text, sizeof text,
                 "{\"object\":\"list\",\"data\":[{\"id\":\"%s\",\"object\":\"model\",\"created\":1763900000,"
                 "\"owned_by\":\"mock\",\"root\":\"%s\",\"parent\":null,\"max_model_len\":32768}]}",
                 model, model);
    else if (strcmp(path, "/get_model_info") == 0 || strcmp(path, "/model_info") == 0)
        snprintf(text, sizeof text,
                 "{\"model_path\":\"%s\",\"tokenizer_path\":\"%s\",\"served_model_name\":\"%s\",\"is_generation\":true}",
                 model, model, model);
    else if (strcmp(path, "/get_server_info") == 0 || strcmp(path, "/server_info") == 0)
        snprintf(text, sizeof text,
                 "{\"model_path\":\"%s\",\"served_model_name\":\"%s\",\"model_id\":\"%s\",\"dp_size\":1,\"tp_size\":1,"
                 "\"version\":\"0\",\"status\":\"ready\"}",
                 model, model, model);
    else if (strcmp(path, "/version") == 0)
        snprintf(text, sizeof text, "{\"version\":\"0.11.0\"}");
    else if (strncmp(path, "/health", strlen("/health")) != 0) {
        answer(connection, "404 Not Found", "application/json", "{}");
        return;
    }
    answer(connection, "200 OK", "application/json", text);
}

void dispatch(struct connection *connection, const char *path, const char *body)
{
    if (strcmp(path, "/control") == 0)
        control(connection, body);
    else if (strcmp(path, "/v1/chat/completions") == 0 || strcmp(path, "/v1/completions") == 0)
        begin_completion(connection, body);
    else if (connection->port->fault == DEAF)
        return; /* the connection waits for an answer that does not come */
    else if (strcmp(path, "/metrics") == 0)
        show_metrics(connection);
    else
        describe(connection, path);
}
