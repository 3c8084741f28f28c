/* What all clients saw together, from the end of the warm-up on. */
#include "load_client.h"

struct times {
    uint32_t *us; /* microseconds, in tenths */
    size_t count, room;
};

static int is_measuring;
static unsigned long ended[OUTCOME_COUNT], tokens;
static struct times whole, first_token, on_the_way;

static void times_add(struct times *times, uint64_t ns)
{
    if (times->count == times->room) {
        times->room = times->room ? 2 * times->room : 65536;
        times->us = realloc(times->us, times->room * sizeof *times->us);
    }
    times->us[times->count++] = ns / 100 > UINT32_MAX ? UINT32_MAX : (uint32_t)(ns / 100);
}

static int compare(const void *one, const void *other)
{
    uint32_t a = *(const uint32_t *)one, b = *(const uint32_t *)other;
    return (a > b) - (a < b);
}

static void show_percentiles(const char *name, struct times *times)
{
    qsort(times->us, times->count, sizeof *times->us, compare);
    printf("\"%s\": {", name);
    static const int percents[] = {50, 99};
    for (size_t at = 0; at < 2; at++) {
        size_t index = times->count == 0 ? 0 : (times->count - 1) * (size_t)percents[at] / 100;
        printf("%s\"p%d\": ", at ? ", " : "", percents[at]);
        if (times->count == 0)
            printf("null");
        else
            printf("%.1f", times->us[index] / 10.0);
    }
    printf("}, ");
}

void begin_measuring(void)
{
    is_measuring = 1;
}

void note_first_token(uint64_t waited_ns)
{
    if (is_measuring)
        times_add(&first_token, waited_ns);
}

/* made_ns is 0 where the server does not say when it made it. */
void note_token(uint64_t made_ns, uint64_t now)
{
    if (!is_measuring)
        return;
    tokens++;
    if (made_ns != 0)
        times_add(&on_the_way, now > made_ns ? now - made_ns : 0);
}

void note_end(const struct client *client, enum outcome outcome, uint64_t now)
{
    if (!is_measuring)
        return;
    ended[outcome]++;
    if (outcome == OK)
        times_add(&whole, now - client->began_ns);
}

void show_results(double seconds, double processor_s)
{
    unsigned long failed = 0;
    printf("{\"seconds\": %.3f, ", seconds);
    for (int outcome = 0; outcome < OUTCOME_COUNT; outcome++) {
        printf("\"%s\": %lu, ", OUTCOMES[outcome], ended[outcome]);
        failed += outcome == OK ? 0 : ended[outcome];
    }
    printf("\"failed\": %lu, \"chunks\": %lu, \"client_cpu_s\": %.3f, ", failed, tokens, processor_s);
    show_percentiles("whole_us", &whole);
    show_percentiles("on_the_way_us", &on_the_way);
    printf("\"first_token_us\": [");
    for (size_t at = 0; at < first_token.count; at++)
        printf("%s%.1f", at ? ", " : "", first_token.us[at] / 10.0);
    printf("]}\n");
}
