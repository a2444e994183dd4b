/* SPDX-License-Identifier: Apache-2.0 */
/* Two independent records of the same calls: the ledger in the gateway's history file, which is only read, and the truth of
 * the simulator's control. The ledger is a batch behind, so it is read until it has as many calls, but not for ever. */
#include "aigwctl/demo_books.h"

#include <stdio.h>

#include "libshared/store/db.h"

#define WAIT_US ((int64_t)5 * 1000000)
#define LOOK_MS 100

static bool take_sums(void *user, const struct db_value *v, unsigned n)
{
    if (n == 3)
        *(struct demo_sums *)user = (struct demo_sums){v[0].i, v[1].i, v[2].i};
    return false;
}

static bool read_ledger(const char *state_dir, struct demo_sums *out)
{
    char path[512];
    struct err err = {0};
    struct db *db;
    bool ok;

    (void)snprintf(path, sizeof(path), "%s/history.db", state_dir);
    db = db_new(&(struct db_options){.url = path, .is_read_only = true, .slow_us = -1}, &err);
    ok = db && db_query(db, "demo_sums",
                        "SELECT coalesce(sum(count), 0), coalesce(sum(tokens_in), 0), "
                        "coalesce(sum(tokens_out), 0) FROM ledger WHERE kind = 'attempt'",
                        NULL, 0, take_sums, out, &err) == ERR_OK;
    db_free(db);
    return ok;
}

static struct api_client *simulator(struct ctl *ctl)
{
    json_t *doc = NULL;
    const char *url;
    struct api_client *c = NULL;
    struct err err = {0};

    if (ctl_get(ctl, "/api/admin/sim", &doc) == CLI_OK && doc) {
        url = json_string_value(json_object_get(doc, "simulator"));
        if (url)
            c = api_client_new(&(struct api_client_options){.url = url, .is_over = &ctl_stop}, &err);
    }
    json_decref(doc);
    return c;
}

static bool read_truth(struct api_client *c, struct demo_sums *out)
{
    struct api_answer a = {0};
    struct err err = {0};
    json_t *doc = NULL, *row;
    size_t i;
    bool ok;

    *out = (struct demo_sums){0};
    if (!api_client_call(c, "GET", "/_sim/truth", (struct span){0}, &a, &err) && a.status == 200)
        doc = json_loadb(a.body.p ? a.body.p : "", a.body.len, 0, NULL);
    json_array_foreach(json_object_get(doc, "rows"), i, row)
    {
        out->posts += json_integer_value(json_object_get(row, "posts"));
        out->input += json_integer_value(json_object_get(row, "input"));
        out->output += json_integer_value(json_object_get(row, "output"));
    }
    ok = doc != NULL;
    json_decref(doc);
    api_answer_release(&a);
    return ok;
}

bool demo_books_compare(struct ctl *ctl, const char *state_dir, struct demo_books *out)
{
    struct api_client *c = simulator(ctl);
    struct mono end = mono_add_us(mono_now(), WAIT_US);
    bool ok = c != NULL;

    *out = (struct demo_books){0};
    do {
        ok = ok && read_truth(c, &out->truth) && read_ledger(state_dir, &out->ledger);
        out->agree = ok && out->ledger.posts == out->truth.posts && out->ledger.input == out->truth.input &&
                     out->ledger.output == out->truth.output;
    } while (ok && !out->agree && mono_diff_us(end, mono_now()) > 0 && ctl_sleep_ms(LOOK_MS));
    api_client_free(c);
    return ok;
}
