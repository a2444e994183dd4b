/* SPDX-License-Identifier: Apache-2.0 */
/* Facts of the past: `daytool STATE_DIR` writes what its standard input says into the journal of a gateway that does not run,
 * by the calls that a worker makes; the gateway's next start brings it to every book. One request a line, fields separated by
 * tabs: END_MS DURATION_MS TENANT KEY USER PROVIDER MODEL ERROR INPUT CACHED OUTPUT COST_NANO TTFT_MS [PROVIDER MODEL ERROR
 * DURATION_MS]. ERROR is a wire code, or "-" for success; USER and TTFT_MS may be "-"; the last four are of an attempt that
 * failed before. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gatewayd/journal/journal.h"

#define FIELDS 17

static void die(const char *what, const char *text)
{
    fprintf(stderr, "daytool: %s: %s\n", what, text);
    exit(2);
}

static int64_t number(const char *z)
{
    char *end;
    int64_t v = strtoll(z, &end, 10);

    if (*end || end == z)
        die("no number", z);
    return v;
}

static enum err_code error_of(const char *z)
{
    if (strcmp(z, "-") == 0)
        return ERR_OK;
    for (int e = 0; e < ERR_COUNT; e++)
        if (strcmp(err_row((enum err_code)e)->code, z) == 0)
            return (enum err_code)e;
    die("no error", z);
    return ERR_OK;
}

static int64_t ms(const char *z)
{
    return strcmp(z, "-") == 0 ? -1 : number(z) * 1000;
}

static struct fact_attempt attempt_of(const char *provider, const char *model, const char *error,
                                      const char *duration)
{
    enum err_code e = error_of(error);

    return (struct fact_attempt){.provider = intern_z(provider),
                                 .model = intern_z(model),
                                 .status = e ? STATUS_ERROR : STATUS_SUCCESS,
                                 .error = e,
                                 .http_status = e ? 500 : 200,
                                 .duration_us = ms(duration),
                                 .ttft_us = -1,
                                 .is_priced = true,
                                 .cycle = {PERIOD_MONTH, NULL}};
}

static void write_line(struct journal *j, char **f, unsigned n)
{
    bool has_first = n == FIELDS;
    int64_t first_us = has_first ? ms(f[16]) : 0, own_us = ms(f[1]);
    struct fact_attempt a[2] = {{0}}, *last = &a[has_first];
    struct fact_request rq = {.tenant = intern_z(f[2]),
                              .key = intern_z(f[3]),
                              .method = intern_z("POST"),
                              .endpoint = intern_z("/v1/chat/completions"),
                              .requested = intern_z("chat"),
                              .op = OP_CHAT,
                              .arrived = {number(f[0]) * 1000 - own_us - first_us},
                              .duration_us = own_us + first_us,
                              .attempts = (uint8_t)(1 + has_first)};
    struct fact_context c;

    rq.id = id_mint(rq.arrived);
    if (has_first)
        a[0] = attempt_of(f[13], f[14], f[15], f[16]);
    *last = attempt_of(f[5], f[6], f[7], f[1]);
    last->started_us = first_us;
    last->ttft_us = ms(f[12]);
    last->usage = (struct usage){.input = (uint64_t)number(f[8]),
                                 .cached = (uint64_t)number(f[9]),
                                 .output = (uint64_t)number(f[10]),
                                 .source = USAGE_REPORTED};
    last->cost_nanousd = number(f[11]);
    a[0].number = 1;
    last->number = rq.attempts;
    if (strcmp(f[4], "-") != 0)
        (void)snprintf(rq.user, sizeof(rq.user), "%s", f[4]);
    rq.provider = last->provider;
    rq.model = last->model;
    rq.status = last->status;
    rq.error = last->error;
    rq.http_status = last->http_status;
    rq.ttft_us = last->ttft_us < 0 ? -1 : last->ttft_us + first_us;
    rq.usage = last->usage;
    rq.cost_nanousd = last->cost_nanousd;
    rq.is_priced = true;
    c = (struct fact_context){
        .request = rq.id, .arrived = rq.arrived, .tenant = rq.tenant, .key = rq.key, .op = rq.op};
    for (unsigned i = 0; i < rq.attempts; i++)
        if (journal_attempt(j, &c, &a[i]))
            die("the journal takes no attempt", f[0]);
    if (journal_settle(j, &rq, a))
        die("the journal takes no request", f[0]);
}

int main(int argc, char **argv)
{
    struct err err = {0};
    char dir[4096], line[4096];
    struct journal *j;
    unsigned long lines = 0;

    if (argc != 2)
        die("usage", "daytool STATE_DIR");
    (void)snprintf(dir, sizeof(dir), "%s/journal", argv[1]);
    j = journal_open(dir, 0, (size_t)256 << 20, &err);
    if (!j)
        die("journal", err_text(&err));
    while (fgets(line, sizeof(line), stdin)) {
        char *f[FIELDS + 1], *z = line;
        unsigned n = 0;

        line[strcspn(line, "\n")] = '\0';
        for (char *word; n <= FIELDS && (word = strsep(&z, "\t"));)
            f[n++] = word;
        if (n != FIELDS && n != FIELDS - 4)
            die("wrong number of fields", line);
        if (lines++ % 100 == 0 && journal_tend(j, &err))
            die("journal", err_text(&err));
        write_line(j, f, n);
    }
    journal_close(j);
    return 0;
}
