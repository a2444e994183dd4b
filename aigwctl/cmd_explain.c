/* SPDX-License-Identifier: Apache-2.0 */
/* Why: the story of a request, what an account is limited by, what the state of a provider is made of. The gateway's answer is one
 * document; here it is put into words. An id that is younger than the history store's last batch is asked for again. */
#include <stdlib.h>
#include <string.h>

#include "aigwctl/budgets.h"
#include "aigwctl/look.h"
#include "libshared/base/buf.h"
#include "libshared/cli/human.h"

#define FRESH_US  ((int64_t)15 * 1000000)
#define WAIT_MS   5000
#define ASK_MS    300
#define KEY_WIDTH 18

static const struct table_column CHECKS[] = {
    /* of a request, as it met them; and of CSV */
    {"scope", "SCOPE", FORM_TEXT},       {"kind", "KIND", FORM_TEXT},       {"used", "USED", FORM_WORD},
    {"held", "HELD", FORM_WORD},         {"limit", "LIMIT", FORM_WORD},     {"requested", "ASKED", FORM_WORD},
    {"resets_at", "RESETS", FORM_UNTIL}, {"verdict", "VERDICT", FORM_TEXT}, {0},
};
static const struct table_column LIMITS[] = {
    /* of an account, as they are */
    {"scope", "SCOPE", FORM_TEXT},     {"kind", "KIND", FORM_TEXT},      {"used", "USED", FORM_WORD},
    {"held", "HELD", FORM_WORD},       {"limit", "LIMIT", FORM_WORD},    {"resets_at", "RESETS", FORM_UNTIL},
    {"verdict", "VERDICT", FORM_TEXT}, {"source", "COUNTER", FORM_TEXT}, {0},
};
static const struct table_column ATTEMPTS[] = {
    {"number", "#", FORM_COUNT},
    {"target", "PROVIDER/MODEL", FORM_TEXT | FORM_WRAP},
    {"status", "STATUS", FORM_TEXT},
    {"http_status", "HTTP", FORM_WORD},
    {"error", "ERROR", FORM_TEXT | FORM_WRAP},
    {"started_ms", "BEGAN", FORM_MS},
    {"duration_ms", "TOOK", FORM_MS},
    {"cost_nanousd", "COST", FORM_USD},
    {0},
};
static const struct table_column BREAKERS[] = {
    {"model", "BREAKER OF", FORM_TEXT | FORM_WRAP},
    {"state", "STATE", FORM_TEXT},
    {"failure_count", "FAILS", FORM_COUNT},
    {"since", "SINCE", FORM_AGE},
    {"until", "UNTIL", FORM_UNTIL},
    {"cause", "LAST CAUSE", FORM_TEXT | FORM_WRAP},
    {0},
};

static bool is_null(const json_t *o, const char *name)
{
    const json_t *v = json_object_get(o, name);

    return !v || json_is_null(v);
}

/* ---- lines ----------------------------------------------------------------------------------------------------------- */

static void line(FILE *f, const char *label, const char *fmt, ...) PRINTF_LIKE(3, 4);
static void line(FILE *f, const char *label, const char *fmt, ...)
{
    char value[1024];
    va_list ap;

    va_start(ap, fmt);
    (void)vsnprintf(value, sizeof(value), fmt, ap);
    va_end(ap);
    (void)fprintf(f, "  %-*s ", KEY_WIDTH, label);
    ctl_put_text(f, value, KEY_WIDTH + 3);
    (void)fputc('\n', f);
}

struct cell {
    char text[HUMAN_CAP];
};
static struct cell usd(const json_t *o, const char *name)
{
    struct cell c = {"-"};

    if (!is_null(o, name))
        human_usd(c.text, json_integer_value(json_object_get(o, name)));
    return c;
}
static struct cell ms(const json_t *o, const char *name)
{
    struct cell c = {"-"};

    if (!is_null(o, name))
        human_ms(c.text, json_number_value(json_object_get(o, name)));
    return c;
}

/* Dollars and counts in one column, as texts. */
static void put_as_text(json_t *row, const char *name, bool is_money)
{
    const json_t *v = json_object_get(row, name);

    if (json_is_integer(v))
        (void)json_object_set_new(row, name, json_sprintf("%lld", (long long)json_integer_value(v)));
    else if (json_is_string(v) && is_money)
        (void)json_object_set_new(row, name, json_sprintf("$%s", json_string_value(v)));
}

static void put_checks(struct ctl *ctl, FILE *f, const json_t *doc)
{
    static const char *const FIGURES[] = {"used", "held", "limit", "requested"};
    json_t *rows = json_deep_copy(json_object_get(doc, "checks")), *row;
    size_t i;

    if (!json_array_size(rows)) {
        json_decref(rows);
        return;
    }
    json_array_foreach(rows, i, row) for (unsigned k = 0; k < sizeof(FIGURES) / sizeof(FIGURES[0]); k++)
        put_as_text(row, FIGURES[k], strcmp(look_shown(row, "unit"), "usd") == 0);
    (void)fputc('\n', f);
    ctl_print(ctl, f, "explain", json_is_true(json_object_get(doc, "is_request")) ? CHECKS : LIMITS, rows,
              NULL);
    json_decref(rows);
}

/* ---- a request ------------------------------------------------------------------------------------------------------- */

static void put_attempts(struct ctl *ctl, FILE *f, const json_t *story)
{
    json_t *rows = json_deep_copy(json_object_get(story, "attempts")), *row;
    size_t i;

    json_array_foreach(rows, i, row)
    {
        (void)json_object_set_new(
            row, "target", json_sprintf("%s/%s", look_shown(row, "provider"), look_shown(row, "model")));
        put_as_text(row, "http_status", false);
    }
    if (json_array_size(rows)) {
        (void)fputc('\n', f);
        ctl_print(ctl, f, "attempts", ATTEMPTS, rows, NULL);
    }
    json_decref(rows);
}

static void put_outcome(FILE *f, const json_t *story)
{
    char line_text[512];
    int n = snprintf(line_text, sizeof(line_text), "%s", look_shown(story, "status"));

    if (!is_null(story, "http_status"))
        n += snprintf(line_text + n, sizeof(line_text) - (size_t)n, ", HTTP %lld",
                      (long long)json_integer_value(json_object_get(story, "http_status")));
    if (!is_null(story, "error"))
        n += snprintf(line_text + n, sizeof(line_text) - (size_t)n, ", %.60s", look_shown(story, "error"));
    if (!is_null(story, "provider"))
        n += snprintf(line_text + n, sizeof(line_text) - (size_t)n, ", by %.64s/%.128s",
                      look_shown(story, "provider"), look_shown(story, "upstream_model"));
    (void)snprintf(line_text + n, sizeof(line_text) - (size_t)n, ", in %s", ms(story, "duration_ms").text);
    line(f, "outcome", "%s", line_text);
    if (!is_null(story, "stream_end"))
        line(f, "stream ended", "%s", look_shown(story, "stream_end"));
    if (!is_null(story, "ttft_ms"))
        line(f, "first content", "after %s", ms(story, "ttft_ms").text);
    if (!is_null(story, "detail"))
        line(f, "detail", "%s", look_shown(story, "detail"));
    line(f, "queue", "waited %s", ms(story, "queue_ms").text);
}

static void put_money(FILE *f, const json_t *doc, const json_t *story)
{
    const json_t *money = json_object_get(doc, "money"), *usage = json_object_get(story, "usage");

    line(f, "held", "%s", usd(money, "held_nanousd").text);
    line(f, "settled", "%s%s", usd(money, "settled_nanousd").text,
         json_is_false(json_object_get(story, "priced")) ? " (a model without a price)" : "");
    line(f, "given back", "%s", usd(money, "given_back_nanousd").text);
    line(f, "tokens", "%lld in (%lld cached), %lld out, %s",
         (long long)json_integer_value(json_object_get(usage, "input")),
         (long long)json_integer_value(json_object_get(usage, "cached")),
         (long long)json_integer_value(json_object_get(usage, "output")), look_shown(usage, "source"));
}

static void put_request(struct ctl *ctl, FILE *f, const json_t *doc)
{
    const json_t *story = json_object_get(doc, "story");
    char head[512];

    (void)snprintf(head, sizeof(head), "request %.40s", look_shown(doc, "subject"));
    if (json_is_object(story))
        (void)snprintf(head, sizeof(head), "request %.40s  %.19sZ\n  %.64s/%.64s asked for %.128s",
                       look_shown(doc, "subject"), look_shown(story, "at"), look_shown(story, "tenant"),
                       look_shown(story, "key"), look_shown(story, "model"));
    term_put(f, head);
    (void)fputc('\n', f);
    if (json_is_object(story)) {
        put_outcome(f, story);
        put_money(f, doc, story);
        put_attempts(ctl, f, story);
    } else {
        line(f, "story", "not in the history store yet");
    }
    put_checks(ctl, f, doc);
}

/* ---- an account ------------------------------------------------------------------------------------------------------ */

/* "2026-11-01", or with the time where it is not midnight. */
static struct cell instant(const json_t *o, const char *name)
{
    const char *z = look_shown(o, name);
    struct cell c;
    bool has_time = strlen(z) > 16 && strncmp(z + 11, "00:00", 5) != 0;

    (void)snprintf(c.text, sizeof(c.text), "%.10s%s%.5s", z, has_time ? " " : "", has_time ? z + 11 : "");
    return c;
}

static void put_head(FILE *f, const json_t *books)
{
    char head[320], marks[64];

    budgets_warn(books, marks, sizeof(marks));
    if (is_null(books, "resets_at"))
        (void)snprintf(head, sizeof(head), "%.160s, in total", budgets_name(look_shown(books, "account")));
    else
        (void)snprintf(head, sizeof(head), "%.160s, %s %s .. %s UTC",
                       budgets_name(look_shown(books, "account")), look_shown(books, "period"),
                       instant(books, "starts_at").text, instant(books, "resets_at").text);
    term_put(f, head);
    (void)fprintf(f, "\n  limit %s, warn %s %%, at limit: ", usd(books, "limit_nanousd").text, marks);
    term_put(f, look_shown(books, "at_limit"));
    (void)fputc('\n', f);
}

static void put_keys(FILE *f, const json_t *books)
{
    struct buf b AUTO(buf_release) = {.max = 2048};
    const json_t *row;
    size_t i;

    json_array_foreach(json_object_get(books, "keys"), i, row)
        buf_addf(&b, "%s%s %.0f %%", b.len ? ", " : "", look_shown(row, "key"),
                 json_number_value(json_object_get(row, "share")) * 100);
    if (b.len)
        line(f, "keys", "%s", b.p);
}

static void put_forecast(FILE *f, const json_t *books)
{
    const char *state = look_shown(books, "forecast"), *at = look_shown(books, "exhausts_at");

    if (!is_null(books, "forecast_nanousd"))
        line(f, "forecast", "%-12s by the end (%s)", usd(books, "forecast_nanousd").text,
             look_shown(books, "forecast_method"));
    if (strcmp(state, "at") == 0)
        line(f, "limit reached", "%.10s %.5s UTC at this rate", at, strlen(at) > 16 ? at + 11 : "");
    else if (strcmp(state, "never") == 0)
        line(f, "limit reached", "not before it resets");
    else
        line(f, "limit reached", "%s",
             strcmp(state, "spent") == 0 ? "now" : "not known: too little was seen");
}

static void put_books(FILE *f, const json_t *books)
{
    put_head(f, books);
    line(f, "enforced counter", "%-12s %s (this number decides)", usd(books, "counter_nanousd").text,
         look_shown(books, "counter_source"));
    if (is_null(books, "ledger_through"))
        line(f, "ledger", "%-12s %s", usd(books, "ledger_nanousd").text, look_shown(books, "ledger_store"));
    else
        line(f, "ledger", "%-12s %s, through %.8s", usd(books, "ledger_nanousd").text,
             look_shown(books, "ledger_store"), look_shown(books, "ledger_through") + 11);
    line(f, "in flight", "%-12s held for open requests", usd(books, "held_nanousd").text);
    line(f, "drift", "%-12s counter - ledger", usd(books, "drift_nanousd").text);
    line(f, "prices", "%.55s", look_shown(books, "prices"));
    put_forecast(f, books);
}

static void put_refusal(FILE *f, const json_t *doc)
{
    const json_t *last = json_object_get(doc, "last_refusal"), *check = json_object_get(last, "check");

    if (json_is_object(last))
        line(f, "last refusal", "%s (%s)", look_shown(last, "request"), look_shown(check, "kind"));
    else
        line(f, "last refusal", "none");
}

static void put_account(struct ctl *ctl, FILE *f, const json_t *doc)
{
    const json_t *books = json_object_get(doc, "books");

    if (json_is_object(books)) {
        put_books(f, books);
        put_keys(f, books);
    } else {
        term_put(f, budgets_name(look_shown(doc, "account")));
        (void)fputs(json_array_size(json_object_get(doc, "checks")) ? ", no budget\n" : ", not limited\n", f);
    }
    put_refusal(f, doc);
    put_checks(ctl, f, doc);
}

/* ---- a provider ------------------------------------------------------------------------------------------------------ */

static void put_term(struct buf *b, const json_t *terms, const char *name, const char *label)
{
    const json_t *t = json_object_get(terms, name);

    if (json_is_object(t))
        buf_addf(b, "%s%s %.1f of %.0f", b->len ? ", " : "", label,
                 json_number_value(json_object_get(t, "points")),
                 json_number_value(json_object_get(t, "of")));
}

static void put_health(FILE *f, const json_t *health)
{
    const json_t *terms = json_object_get(health, "terms");
    struct buf b AUTO(buf_release) = {.max = 1024};

    if (is_null(health, "health_score"))
        line(f, "health", "%s", look_shown(health, "status"));
    else
        line(f, "health", "%.1f %s", json_number_value(json_object_get(health, "health_score")),
             look_shown(health, "status"));
    put_term(&b, terms, "success_rate", "success");
    put_term(&b, terms, "latency_p95", "p95");
    put_term(&b, terms, "breakers", "breakers");
    if (b.len)
        line(f, "", "%s", b.p);
    line(f, "attempts", "%lld, %lld failed; p95 %s",
         (long long)json_integer_value(json_object_get(health, "attempts")),
         (long long)json_integer_value(json_object_get(health, "errors")), ms(health, "latency_p95_ms").text);
}

static void put_queue(FILE *f, const json_t *q)
{
    if (!json_is_object(q))
        return;
    if (is_null(q, "slots"))
        line(f, "in flight", "%lld, no limit",
             (long long)json_integer_value(json_object_get(q, "in_flight")));
    else
        line(f, "in flight", "%lld of %lld, %lld waiting",
             (long long)json_integer_value(json_object_get(q, "in_flight")),
             (long long)json_integer_value(json_object_get(q, "slots")),
             (long long)json_integer_value(json_object_get(q, "waiting")));
}

static void put_aliases(FILE *f, const json_t *doc)
{
    struct buf b AUTO(buf_release) = {.max = 2048};
    const json_t *row;
    size_t i;

    json_array_foreach(json_object_get(doc, "aliases"), i, row)
        buf_addf(&b, "%s%s (%lld of %lld)", b.len ? ", " : "", look_shown(row, "alias"),
                 (long long)json_integer_value(json_object_get(row, "place")),
                 (long long)json_integer_value(json_object_get(row, "of")));
    line(f, "aliases", "%s", b.len ? b.p : "none go there");
}

static void put_provider(struct ctl *ctl, FILE *f, const json_t *doc)
{
    const json_t *breakers = json_object_get(doc, "breakers"), *books = json_object_get(doc, "books");

    term_put(f, look_shown(doc, "provider"));
    if (!is_null(doc, "model")) {
        (void)fputc('/', f);
        term_put(f, look_shown(doc, "model"));
    }
    (void)fputs(json_is_true(json_object_get(doc, "enabled")) ? ", enabled\n" : ", not enabled\n", f);
    if (json_is_object(json_object_get(doc, "health")))
        put_health(f, json_object_get(doc, "health"));
    put_queue(f, json_object_get(doc, "queue"));
    put_aliases(f, doc);
    if (json_array_size(breakers)) {
        (void)fputc('\n', f);
        ctl_print(ctl, f, "breakers", BREAKERS, breakers, NULL);
    }
    if (json_is_object(books)) {
        (void)fputc('\n', f);
        put_books(f, books);
    }
    put_checks(ctl, f, doc);
}

/* ---- asking ---------------------------------------------------------------------------------------------------------- */

static int hex_at(const char *z, unsigned i)
{
    const char *digits = "0123456789abcdef", *at = z[i] ? strchr(digits, z[i] | 32) : NULL;

    return at ? (int)(at - digits) : -1;
}

/* The first 48 bits of a request's id are the milliseconds of its arrival. */
static bool is_fresh_request(const char *what)
{
    static const unsigned AT[] = {0, 1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 12};
    int64_t t = 0;

    if (strlen(what) != 36)
        return false;
    for (unsigned i = 0; i < sizeof(AT) / sizeof(AT[0]); i++) {
        int v = hex_at(what, AT[i]);

        if (v < 0)
            return false;
        t = t << 4 | v;
    }
    return t * 1000 > wall_now().us - FRESH_US;
}

static int ask(struct ctl *ctl, const char *path, struct api_answer *out)
{
    int rc = ctl_call(ctl, "GET", path, (struct span){0}, out);

    return rc ? rc : out->status == 200 ? CLI_OK : CLI_FAILED;
}

static bool lacks_story(const struct api_answer *a)
{
    json_t *doc = a->status == 200 ? json_loadb(a->body.p, a->body.len, 0, NULL) : NULL;
    bool lacks =
        a->status == 404 || (strcmp(look_shown(doc, "kind"), "request") == 0 && is_null(doc, "story"));

    json_decref(doc);
    return lacks;
}

static int fetch(struct ctl *ctl, const char *what, json_t **out)
{
    struct buf path AUTO(buf_release) = {.max = 4096};
    struct api_answer a = {0};
    int rc, waited = 0;

    *out = NULL;
    buf_addz(&path, "/api/admin/explain/");
    for (const char *z = what; *z; z++)
        if (strchr("/_.-~:@", *z) || (*z >= '0' && *z <= '9') || ((*z | 32) >= 'a' && (*z | 32) <= 'z'))
            buf_addc(&path, *z);
        else
            buf_addf(&path, "%%%02X", (unsigned char)*z);
    rc = ask(ctl, path.p, &a);
    while (a.status && lacks_story(&a) && is_fresh_request(what) && waited < WAIT_MS &&
           ctl_sleep_ms(ASK_MS)) {
        waited += ASK_MS;
        api_answer_release(&a);
        rc = ask(ctl, path.p, &a);
    }
    if (rc == CLI_FAILED && a.status)
        rc = ctl_refused(&a);
    else if (!rc && ctl->is_raw)
        term_put_body(stdout, buf_span(&a.body));
    else if (!rc && !(*out = json_loadb(a.body.p, a.body.len, JSON_REJECT_DUPLICATES, NULL)))
        rc = ctl_fail(CLI_FAILED, "the answer is not JSON");
    api_answer_release(&a);
    return rc;
}

static void put_warnings(const json_t *doc)
{
    const json_t *w;
    size_t i;

    json_array_foreach(json_object_get(doc, "warnings"), i, w)
    {
        (void)fputs("aigwctl: ", stderr);
        term_put(stderr, json_string_value(w) ? json_string_value(w) : "?");
        (void)fputc('\n', stderr);
    }
}

int explain_show(struct ctl *ctl, const char *what)
{
    const char *kind;
    json_t *doc;
    int rc = fetch(ctl, what, &doc);

    if (rc || !doc)
        return rc;
    kind = look_shown(doc, "kind");
    put_warnings(doc);
    if (ctl->output != OUTPUT_TABLE)
        ctl_print(ctl, stdout, "explain", CHECKS, json_object_get(doc, "checks"), doc);
    else if (strcmp(kind, "request") == 0)
        put_request(ctl, stdout, doc);
    else if (strcmp(kind, "provider") == 0)
        put_provider(ctl, stdout, doc);
    else
        put_account(ctl, stdout, doc);
    json_decref(doc);
    return CLI_OK;
}

static int run(struct ctl *ctl)
{
    if (ctl->n_args != 1)
        return ctl_fail(CLI_USAGE,
                        "explain: name one request, tenant, TENANT/KEY, account or PROVIDER[/MODEL]");
    return explain_show(ctl, ctl->args[0]);
}

static const struct command_verb VERBS[] = {
    {"", "REQUEST|ACCOUNT|TARGET", "why a request, an account or a provider is as it is", READS,
     "GET /api/admin/explain/{what}"},
    {0},
};

const struct command CMD_EXPLAIN = {
    .name = "explain",
    .verbs = VERBS,
    .group = GROUP_LOOK,
    .summary = "why: a request, an account, a provider",
    .help = "Of a request, by its x-request-id: what became of it, what was held and settled, every attempt, "
            "and which "
            "limits it met. Of a tenant or key: the counter that decides beside the ledger, what is in "
            "flight and the "
            "drift. Of a provider: health, breakers, slots. A tenant or key comes before a provider of the "
            "same name; "
            "'provider:NAME' is always the provider.\v"
            "  aigwctl explain 01a1fe83-adec-71f5-9c60-637c63abee33",
    .run = run,
    .max_args = 1,
};
