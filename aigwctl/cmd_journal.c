/* SPDX-License-Identifier: Apache-2.0 */
/* What a journal holds, record by record or summed up. Reads the files of a gateway that runs or is dead, and writes
 * nothing. Records are shown as they are read, a table keeps the last ones. The tricky part is the end of a file that a
 * worker appends to: bytes of a record that is not published yet are no damage, so they are looked at again. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "aigwctl/command.h"
#include "libshared/journal/files.h"
#include "libshared/journal/record.h"

#define PATHS_MAX  64
#define BUCKETS    16384u
#define OPEN_SHOWN 100
#define LAST       1000u
#define TRIES      5 /* before what is not finished is called torn */
#define TRY_MS     20

enum { KEY_TYPE = 0x2000, KEY_ID, KEY_SUMMARY, KEY_LAST };

static struct {
    unsigned types; /* bit set */
    const char *id;
    bool is_summary;
    uint64_t last;
} opt = {.types = UINT32_MAX, .last = LAST};

static const struct argp_option OPTIONS[] = {
    {"type", KEY_TYPE, "TYPES", 0, "only these: reserve,attempt,progress,settle,adjust", 0},
    {"id", KEY_ID, "ID", 0, "only the request whose id begins so", 0},
    {"summary", KEY_SUMMARY, 0, 0, "one row per worker: records of each type, open requests, damage", 0},
    {"last", KEY_LAST, "N", 0, "rows of a table or CSV, newest (default 1000; 0: all)", 0},
    {0},
};

static bool take_types(char *arg)
{
    struct span rest = span_of(arg);

    opt.types = 0;
    while (rest.p) {
        struct span one = span_split(&rest, ',');
        unsigned t = 1;

        while (t < JOURNAL_TYPES && !(record_type_name(t) && span_is(one, record_type_name(t))))
            t++;
        if (t == JOURNAL_TYPES)
            return false;
        opt.types |= 1u << t;
    }
    return opt.types != 0;
}

static error_t take(int key, char *arg, struct argp_state *state)
{
    switch (key) {
    case KEY_TYPE:
        if (!take_types(arg))
            ctl_usage(state, "--type takes reserve, attempt, progress, settle or adjust, not '%s'", arg);
        return 0;
    case KEY_ID:
        opt.id = arg;
        return 0;
    case KEY_SUMMARY:
        opt.is_summary = true;
        return 0;
    case KEY_LAST:
        if (!span_to_u64(span_of(arg), &opt.last))
            ctl_usage(state, "--last takes a number, not '%s'", arg);
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

/* ---- what is open -------------------------------------------------------------------------------------------------- */

struct open_request {
    struct id id;
    struct open_request *next;
};

struct worker {
    unsigned number;
    uint64_t segments, counts[JOURNAL_TYPES], unknown, bytes, last, released, n_open;
    struct wall newest;
    const char *torn_path; /* borrowed from the file list; NULL: nothing torn or corrupt */
    size_t torn_at;
    bool is_corrupt;
    struct open_request *bucket[BUCKETS];
};

static struct open_request **slot_of(struct worker *w, const struct id *id)
{
    uint64_t h;
    struct open_request **at;

    memcpy(&h, id->b + 8, sizeof(h)); /* random in an id of ours */
    at = &w->bucket[h % BUCKETS];
    while (*at && memcmp((*at)->id.b, id->b, sizeof(id->b)) != 0)
        at = &(*at)->next;
    return at;
}

/* What an open request needs is never released, so a released statement is of one that ended, wherever its end is. */
static void follow(struct worker *w, const struct journal_record *r, uint64_t seq)
{
    struct open_request **at = slot_of(w, record_id(r)), *o = *at;

    if (r->type == JOURNAL_SETTLE && o) {
        *at = o->next;
        free(o);
        w->n_open--;
    } else if (!o && seq >= w->released && (r->type == JOURNAL_RESERVE || r->type == JOURNAL_PROGRESS)) {
        o = calloc(1, sizeof(*o));
        if (!o)
            abort();
        o->id = *record_id(r);
        *at = o;
        w->n_open++;
    }
}

static json_t *open_ids(struct worker *w)
{
    json_t *list = json_array();

    for (size_t i = 0; i < BUCKETS; i++)
        for (struct open_request *o = w->bucket[i]; o && json_array_size(list) < OPEN_SHOWN; o = o->next) {
            char text[ID_TEXT_CAP];

            id_format(&o->id, text);
            (void)json_array_append_new(list, json_string(text));
        }
    return list;
}

static void worker_free(struct worker *w)
{
    for (size_t i = 0; w && i < BUCKETS; i++)
        while (w->bucket[i]) {
            struct open_request *o = w->bucket[i];

            w->bucket[i] = o->next;
            free(o);
        }
    free(w);
}

/* ---- a record as JSON ---------------------------------------------------------------------------------------------- */

static void put(json_t *o, const char *name, json_t *value)
{
    (void)json_object_set_new(o, name, value);
}

static void put_u(json_t *o, const char *name, uint64_t v)
{
    put(o, name, json_integer(v > INT64_MAX ? INT64_MAX : (json_int_t)v));
}

static void put_label(json_t *o, const char *name, label l)
{
    put(o, name, l ? json_string(label_text(l)) : json_null());
}

/* Texts that were no labels: bytes of a file. */
static void put_text(json_t *o, const char *name, const char *text)
{
    json_t *s = json_string(text);

    put(o, name, s ? s : json_string("(not UTF-8)"));
}

static void put_ms(json_t *o, const char *name, int64_t us)
{
    put(o, name, us < 0 ? json_null() : json_real((double)us / 1000));
}

static void put_time(json_t *o, const char *name, struct wall t)
{
    char text[WALL_TEXT_CAP];

    (void)wall_format(t, text, sizeof(text));
    put(o, name, json_string(text));
}

static void put_error(json_t *o, const char *name, enum err_code e)
{
    put(o, name, e ? json_string(err_row(e)->code) : json_null());
}

static json_t *usage_of(const struct usage *u)
{
    static const char *const SOURCES[] = {"none", "reported", "estimated"};
    json_t *o = json_object();

    put_u(o, "input", u->input);
    put_u(o, "cached", u->cached);
    put_u(o, "cache_write", u->cache_write);
    put_u(o, "output", u->output);
    put_u(o, "reasoning", u->reasoning);
    put_u(o, "images", u->images);
    put_u(o, "searches", u->searches);
    put(o, "source", json_string(SOURCES[u->source]));
    return o;
}

static void put_spent(json_t *o, const struct usage *u, int64_t cost_nanousd, bool is_priced)
{
    put(o, "usage", usage_of(u));
    put(o, "cost_nanousd", json_integer(cost_nanousd));
    put(o, "priced", json_boolean(is_priced));
}

static void put_who(json_t *o, label tenant, label key, enum operation op)
{
    put_label(o, "tenant", tenant);
    put_label(o, "key", key);
    put(o, "operation", op < OP_COUNT ? json_string(operation_row(op)->label) : json_null());
}

static void put_held(json_t *o, const struct fact_reservation *r)
{
    put(o, "reserved_nanousd", json_integer(r->amount_nanousd));
    if (r->amount_nanousd)
        put_time(o, "reserved_at", r->at);
}

static void put_attempt(json_t *o, const struct fact_attempt *a)
{
    put(o, "number", json_integer(a->number));
    put_label(o, "provider", a->provider);
    put_label(o, "model", a->model);
    put_text(o, "status", fact_status_name(a->status));
    put_error(o, "error", a->error);
    put(o, "http_status", a->http_status ? json_integer(a->http_status) : json_null());
    put(o, "stream_end", a->is_stream ? json_string(stream_end_name(a->end)) : json_null());
    put_label(o, "from_provider", a->from_provider);
    put_error(o, "retry_reason", a->retry_reason);
    put_ms(o, "started_ms", a->started_us);
    put_ms(o, "duration_ms", a->duration_us);
    put_ms(o, "ttft_ms", a->ttft_us);
    put_spent(o, &a->usage, a->cost_nanousd, a->is_priced);
}

static void put_open(json_t *o, const struct fact_open *f)
{
    put_who(o, f->context.tenant, f->context.key, f->context.op);
    put_time(o, "arrived", f->context.arrived);
    put_label(o, "requested", f->requested);
    put_label(o, "provider", f->provider);
    put_label(o, "model", f->model);
    put(o, "stream", json_boolean(f->is_stream));
    put(o, "number", json_integer(f->number));
    put_ms(o, "started_ms", f->started_us);
    put_spent(o, &f->usage, f->cost_nanousd, f->is_priced);
    put_held(o, &f->reservation);
    put(o, "ended", json_integer(f->ended));
    put(o, "ended_cost_nanousd", json_integer(f->ended_cost_nanousd));
}

static void put_settle(json_t *o, const struct fact_request *rq, const struct fact_attempt *a)
{
    json_t *attempts = json_array();

    put_who(o, rq->tenant, rq->key, rq->op);
    put_time(o, "arrived", rq->arrived);
    put_label(o, "requested", rq->requested);
    put_label(o, "provider", rq->provider);
    put_label(o, "model", rq->model);
    put_text(o, "status", fact_status_name(rq->status));
    put_error(o, "error", rq->error);
    put(o, "http_status", rq->http_status ? json_integer(rq->http_status) : json_null());
    put_text(o, "detail", rq->detail);
    put(o, "stream_end", rq->is_stream ? json_string(stream_end_name(rq->end)) : json_null());
    put_ms(o, "duration_ms", rq->duration_us);
    put_ms(o, "ttft_ms", rq->ttft_us);
    put_spent(o, &rq->usage, rq->cost_nanousd, rq->is_priced);
    put_held(o, &rq->reservation);
    put(o, "recovery", json_boolean(rq->is_recovery));
    for (unsigned i = 0; i < record_attempts(rq); i++) {
        json_t *one = json_object();

        put_attempt(one, &a[i]);
        (void)json_array_append_new(attempts, one);
    }
    put(o, "attempts", attempts);
}

static void put_adjust(json_t *o, const struct fact_adjust *a)
{
    put_label(o, "tenant", a->tenant);
    put_label(o, "key", a->key);
    put_label(o, "provider", a->provider);
    put_label(o, "model", a->model);
    put(o, "cost_nanousd", json_integer(a->amount_nanousd));
    put_text(o, "who", a->who);
    put_text(o, "why", a->why);
}

static void put_record(json_t *o, const struct journal_record *r)
{
    char id[ID_TEXT_CAP];

    id_format(record_id(r), id);
    put_time(o, "at", record_time(r));
    put(o, "id", json_string(id));
    switch (r->type) {
    case JOURNAL_RESERVE:
    case JOURNAL_PROGRESS:
        put_open(o, &r->open);
        break;
    case JOURNAL_ATTEMPT:
        put_who(o, r->attempt.context.tenant, r->attempt.context.key, r->attempt.context.op);
        put_time(o, "arrived", r->attempt.context.arrived);
        put_attempt(o, &r->attempt.a);
        break;
    case JOURNAL_SETTLE:
        put_settle(o, &r->settle.rq, r->settle.a);
        break;
    case JOURNAL_ADJUST:
        put_adjust(o, &r->adjust);
        break;
    }
}

/* ---- reading ------------------------------------------------------------------------------------------------------- */

struct look {
    const struct ctl *ctl;
    FILE *f;
    struct segment_files files;
    struct worker **workers; /* in order */
    size_t n_workers;
    json_t *rows; /* of the table */
    uint64_t left_out;
    int worst; /* CLI_OK, CLI_WARNING: torn, CLI_CRITICAL: corrupt */
};

static const struct table_column RECORDS[] = {{"worker", "W", FORM_TEXT | FORM_SPARE},
                                              {"seq", "SEQ", FORM_NAME},
                                              {"type", "TYPE", FORM_NAME},
                                              {"at", "TIME", FORM_AGE | FORM_SPARE},
                                              {"id", "REQUEST", FORM_NAME},
                                              {"tenant", "TENANT", FORM_TEXT | FORM_SPARE},
                                              {"provider", "PROVIDER", FORM_TEXT | FORM_SPARE},
                                              {"model", "MODEL", FORM_TEXT | FORM_SPARE},
                                              {"status", "STATUS", FORM_TEXT},
                                              {"cost_nanousd", "COST", FORM_USD | FORM_SPARE},
                                              {"reserved_nanousd", "HELD", FORM_USD | FORM_SPARE},
                                              {"released", "RELEASED", FORM_YES | FORM_SPARE},
                                              {0}};
static const struct table_column SUMMARY[] = {
    {"worker", "W", FORM_TEXT},           {"segments", "SEGMENTS", FORM_COUNT},
    {"reserve", "RESERVE", FORM_COUNT},   {"attempt", "ATTEMPT", FORM_COUNT},
    {"progress", "PROGRESS", FORM_COUNT}, {"settle", "SETTLE", FORM_COUNT},
    {"adjust", "ADJUST", FORM_COUNT},     {"unknown", "UNKNOWN", FORM_COUNT},
    {"open", "OPEN", FORM_COUNT},         {"newest", "NEWEST", FORM_AGE},
    {"last_seq", "LAST", FORM_TEXT},      {"released_seq", "RELEASED TO", FORM_TEXT},
    {"damage", "DAMAGE", FORM_TEXT},      {0}};

static void report(struct look *l, int severity, const char *text)
{
    (void)ctl_fail(severity, "%s", text);
    if (severity > l->worst)
        l->worst = severity;
}

/* One object a line; what a terminal obeys is escaped. */
static void print_line(FILE *f, const json_t *o)
{
    char *text = json_dumps(o, JSON_COMPACT | JSON_ENSURE_ASCII);

    for (const char *p = text; p && *p; p++)
        (void)(*p == 0x7f ? fputs("\\u007f", f) : fputc(*p, f));
    (void)fputc('\n', f);
    free(text);
}

static void show_row(struct look *l, json_t *o)
{
    if (l->ctl->output == OUTPUT_JSON) {
        print_line(l->f, o);
    } else {
        (void)json_array_append(l->rows, o);
        if (opt.last && json_array_size(l->rows) > opt.last) {
            (void)json_array_remove(l->rows, 0);
            l->left_out++;
        }
    }
    json_decref(o);
}

static bool is_wanted(const struct journal_record *r)
{
    char id[ID_TEXT_CAP];

    if (!(opt.types >> r->type & 1))
        return false;
    if (!opt.id)
        return true;
    id_format(record_id(r), id);
    return strncasecmp(id, opt.id, strlen(opt.id)) == 0;
}

static void take_record(struct look *l, struct worker *w, const struct walk_record *at)
{
    struct journal_record r;
    enum err_code e = record_decode(at->type, at->version, at->payload, &r);
    bool is_known = e == ERR_OK;
    json_t *o;

    w->last = at->seq;
    w->bytes += walk_space(at->payload.len);
    if (is_known) {
        w->counts[r.type]++;
        if (record_time(&r).us > w->newest.us)
            w->newest = record_time(&r);
        follow(w, &r, at->seq);
    } else {
        w->unknown++;
    }
    if (opt.is_summary || (is_known ? !is_wanted(&r) : opt.id || opt.types != UINT32_MAX))
        return;
    o = json_object();
    put(o, "worker", json_integer(w->number));
    put_u(o, "seq", at->seq);
    put(o, "type",
        is_known ? json_string(record_type_name(at->type))
                 : json_sprintf("unknown %u/%u", at->type, at->version));
    if (is_known)
        put_record(o, &r);
    put(o, "released",
        l->ctl->output == OUTPUT_JSON ? json_boolean(at->seq < w->released)
                                      : json_integer(at->seq < w->released));
    show_row(l, o);
}

static void damaged(struct look *l, struct worker *w, const struct segment_file *f, size_t at,
                    bool is_corrupt)
{
    char text[512];

    (void)snprintf(text, sizeof(text),
                   is_corrupt ? "'%s': the record at offset %zu is corrupt; what is behind it is not read"
                              : "'%s': a record at offset %zu was never finished",
                   f->path, at);
    report(l, is_corrupt ? CLI_CRITICAL : CLI_WARNING, text);
    if (!w->torn_path || is_corrupt) {
        w->torn_path = f->path;
        w->torn_at = at;
        w->is_corrupt = is_corrupt;
    }
}

/* Reads on from `at`; returns where it stopped. */
static size_t read_on(struct look *l, struct worker *w, const unsigned char *bytes,
                      const struct walk_header *h, size_t size, size_t at, enum walk_step *out)
{
    struct walk_record rec;

    while ((*out = walk_step(bytes, size, h->sequence, at, &rec)) == WALK_RECORD) {
        take_record(l, w, &rec);
        at = rec.next;
    }
    return at;
}

static void read_file(struct look *l, struct worker *w, const struct segment_file *f, unsigned char *bytes)
{
    enum walk_step end = WALK_SEALED;
    size_t at = WALK_DATA;
    struct walk_header h;
    struct err err = {0};
    enum err_code e = ERR_OK;

    for (int i = 0; i < TRIES; i++) {
        e = segment_file_load(f, bytes, &h, &err);
        if (e)
            break;
        at = read_on(l, w, bytes, &h, f->size, at, &end);
        if (end == WALK_SEALED || (end == WALK_END && walk_is_blank(bytes, f->size, at)))
            break;
        if (!ctl_sleep_ms(TRY_MS)) /* somebody may be writing there */
            return;
    }
    if (e == ERR_CONFLICT)
        return; /* what was in it is safe elsewhere */
    if (e)
        report(l, CLI_CRITICAL, err_text(&err));
    else if (end == WALK_CORRUPT || (end == WALK_END && !walk_is_blank(bytes, f->size, at)))
        damaged(l, w, f, at, end == WALK_CORRUPT);
    if (!e && f->is_short) {
        char text[512];

        (void)snprintf(text, sizeof(text), "'%s' is shorter than its header says", f->path);
        report(l, CLI_CRITICAL, text);
    }
}

static struct worker *worker_of(struct look *l, const struct segment_file *f)
{
    struct worker *w = l->n_workers ? l->workers[l->n_workers - 1] : NULL;
    uint64_t released = walk_seq(f->header.sequence, 0);

    if (!w || w->number != f->header.worker) {
        w = calloc(1, sizeof(*w));
        l->workers = realloc(l->workers, (l->n_workers + 1) * sizeof(struct worker *));
        if (!w || !l->workers)
            abort();
        w->number = f->header.worker;
        l->workers[l->n_workers++] = w;
    }
    w->segments++;
    if (f->header.released >= f->size)
        released = walk_seq(f->header.sequence + 1, 0);
    else if (f->header.released > WALK_DATA)
        released = walk_seq(f->header.sequence, f->header.released);
    else
        released = 0;
    if (released > w->released)
        w->released = released;
    return w;
}

static void read_files(struct look *l)
{
    unsigned char *bytes = aligned_alloc(64, FILES_SEGMENT_MAX);
    size_t k = 0;

    if (!bytes)
        abort();
    for (size_t i = 0; i < l->files.n; i++) { /* marks first: the newest counts for all that is older */
        const struct segment_file *f = &l->files.at[i];
        char text[512];

        if (f->is_sound) {
            (void)worker_of(l, f);
            continue;
        }
        (void)snprintf(text, sizeof(text), "'%s' has no sound header", f->path);
        report(l, CLI_CRITICAL, text);
    }
    for (size_t i = 0; i < l->files.n && !ctl_stop; i++) {
        const struct segment_file *f = &l->files.at[i];

        if (!f->is_sound)
            break; /* they are last */
        if (l->workers[k]->number != f->header.worker)
            k++;
        read_file(l, l->workers[k], f, bytes);
    }
    free(bytes);
}

/* ---- showing ------------------------------------------------------------------------------------------------------- */

static json_t *summary_of(struct worker *w)
{
    json_t *o = json_object();

    put(o, "worker", json_integer(w->number));
    put_u(o, "segments", w->segments);
    for (unsigned t = 1; t < JOURNAL_TYPES; t++)
        if (record_type_name(t))
            put_u(o, record_type_name(t), w->counts[t]);
    put_u(o, "unknown", w->unknown);
    put_u(o, "bytes", w->bytes);
    put_u(o, "open", w->n_open);
    put(o, "open_ids", open_ids(w));
    if (w->newest.us)
        put_time(o, "newest", w->newest);
    put(o, "last_seq", w->last ? json_integer((json_int_t)w->last) : json_null());
    put(o, "released_seq", w->released ? json_integer((json_int_t)w->released) : json_null());
    put(o, "damage", !w->torn_path ? json_string("none") : json_string(w->is_corrupt ? "corrupt" : "torn"));
    if (w->torn_path) {
        put_text(o, "damage_file", w->torn_path);
        put_u(o, "damage_offset", w->torn_at);
    }
    return o;
}

static void show_rows(struct look *l)
{
    if (opt.is_summary)
        for (size_t i = 0; i < l->n_workers; i++)
            (void)json_array_append_new(l->rows, summary_of(l->workers[i]));
    if (opt.is_summary || l->ctl->output != OUTPUT_JSON)
        ctl_print(l->ctl, l->f, "journal", opt.is_summary ? SUMMARY : RECORDS, l->rows, NULL);
    if (l->left_out)
        (void)fprintf(stderr, "%" PRIu64 " older records are not shown; --last 0 shows all.\n", l->left_out);
}

/* Where the daemon keeps its journal when it is not told otherwise. */
static void default_path(char *dst, size_t cap)
{
    const char *state = getenv("XDG_STATE_HOME"), *home = getenv("HOME");

    if (state && state[0] == '/')
        (void)snprintf(dst, cap, "%s/gatewayd", state);
    else if (home && *home)
        (void)snprintf(dst, cap, "%s/.local/state/gatewayd", home);
    else
        (void)snprintf(dst, cap, "/var/lib/gatewayd");
}

static int find_files(struct look *l)
{
    char guess[512];
    struct err err = {0};
    enum err_code e = ERR_OK;

    default_path(guess, sizeof(guess));
    if (l->ctl->n_args < 2)
        e = segment_files_find(&l->files, guess, &err);
    for (int i = 1; !e && i < l->ctl->n_args; i++)
        e = segment_files_find(&l->files, l->ctl->args[i], &err);
    return e ? ctl_fail(e == ERR_NOT_FOUND ? CLI_NOT_FOUND : CLI_FAILED, "%s", err_text(&err)) : CLI_OK;
}

static int show(struct ctl *ctl, FILE *f)
{
    struct look l = {.ctl = ctl, .f = f, .rows = json_array()};
    int rc = find_files(&l);

    if (!rc) {
        read_files(&l);
        show_rows(&l);
        rc = ctl->has_exit_code ? l.worst : CLI_OK;
    }
    for (size_t i = 0; i < l.n_workers; i++)
        worker_free(l.workers[i]);
    free(l.workers);
    segment_files_release(&l.files);
    json_decref(l.rows);
    return ctl_stop ? 128 + ctl_stop : rc;
}

static int run(struct ctl *ctl)
{
    if (ctl->n_args < 1 || strcmp(ctl->args[0], "inspect") != 0)
        return ctl_fail(CLI_USAGE, "journal: write 'aigwctl journal inspect [DIR|FILE…]'");
    return ctl_watch(ctl, show);
}

static const struct command_verb VERBS[] = {
    {"inspect", "[DIR|FILE…]", "its records", READS, NULL},
    {0},
};

const struct command CMD_JOURNAL = {
    .name = "journal",
    .verbs = VERBS,
    .group = GROUP_DATA,
    .summary = "what a gateway's journal holds",
    .help =
        "Shows the records of a journal: a state directory, a journal, a worker's directory in it or single "
        "segments. The gateway may run or be dead; nothing is written. JSON is one object a line and "
        "record.\n"
        "With --exit-code: 10 when a record was never finished, as a crash leaves it; 11 when a file is "
        "damaged.\v"
        "  aigwctl journal inspect --summary /var/lib/gatewayd\n"
        "  aigwctl journal inspect --id 019aa3c2 -o json /var/lib/gatewayd",
    .options = OPTIONS,
    .take = take,
    .run = run,
    .max_args = PATHS_MAX,
};
