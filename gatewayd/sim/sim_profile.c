/* SPDX-License-Identifier: Apache-2.0 */
/* Profiles and their JSON form. Members are rows of FIELDS: parser, printer and documentation test read that
 * table. */
#include "gatewayd/sim/sim_profile.h"

#include <jansson.h>
#include <stdlib.h>

#include "gatewayd/sim/sim_text.h"
#include "libshared/base/buf.h"

static const struct {
    const char *name;
    int status;
} FAULTS[SIM_FAULT_COUNT] = {
    {"ok", 0},
#define SIM_FAULT(id, name, status) {name, status},
#include "gatewayd/sim/sim_faults.def"
#undef SIM_FAULT
};

const char *sim_fault_name(enum sim_fault f)
{
    return FAULTS[f].name;
}
int sim_fault_status(enum sim_fault f)
{
    return FAULTS[f].status;
}

static enum sim_fault fault_find(struct span name)
{
    for (unsigned f = 0; f < SIM_FAULT_COUNT; f++)
        if (span_is(name, FAULTS[f].name))
            return (enum sim_fault)f;
    return SIM_FAULT_COUNT;
}

#define AT(member) __builtin_offsetof(struct sim_behaviour, member)
static const struct number_field {
    const char *name;
    size_t offset;
    double min, max;
} NUMBERS[] = {
    {"latency_ms", AT(latency_ms), 0, 3600000},
    {"jitter_ms", AT(jitter_ms), 0, 3600000},
    {"ttft_ms", AT(ttft_ms), 0, 3600000},
    {"tail_share", AT(tail_share), 0, 1},
    {"tail_ms", AT(tail_ms), 0, 3600000},
    {"tokens_per_s", AT(tokens_per_s), 0, 1000000},
    {"chunk_tokens", AT(chunk_tokens), 1, 100000},
    {"frame_bytes", AT(frame_bytes), 0, 1048576},
    {"drip_ms", AT(drip_ms), 1, 60000},
    {"cached_share", AT(cached_share), 0, 1},
    {"cache_write_share", AT(cache_write_share), 0, 1},
    {"reasoning_share", AT(reasoning_share), 0, 1},
    {"retry_after_s", AT(retry_after_s), -1, 86400},
    {"dimensions", AT(dimensions), 1, 4096},
};
static const struct flag_field {
    const char *name;
    size_t offset;
} FLAGS[] = {
    {"sse_crlf", AT(sse_crlf)},
    {"sse_comments", AT(sse_comments)},
    {"usage_every_chunk", AT(usage_every_chunk)},
    {"strict_models", AT(strict_models)},
};
#undef AT

static double *number_at(struct sim_behaviour *b, size_t offset)
{
    return (double *)(void *)((char *)b + offset);
}
static bool *flag_at(struct sim_behaviour *b, size_t offset)
{
    return (bool *)(void *)((char *)b + offset);
}

#define CHAINS 256u
struct sim_profiles {
    struct sim_profile *chain[CHAINS];
    struct sim_profile *all[SIM_PROFILES_MAX];
    unsigned n;
};

static void behaviour_release(struct sim_behaviour *b)
{
    free(b->require_key);
    free(b->headers);
    free(b->error_headers);
    json_decref(b->models);
}

static struct sim_behaviour behaviour_default(const char *name)
{
    struct sim_behaviour b = {.chunk_tokens = 1,
                              .drip_ms = 50,
                              .retry_after_s = 1,
                              .dimensions = 64,
                              .output_min = 16,
                              .output_max = 48};

    if (strcmp(name, "sim-fast") == 0) {
        b.latency_ms = 90;
        b.jitter_ms = 10;
    } else if (strcmp(name, "sim-steady") == 0) {
        b.latency_ms = 400;
        b.jitter_ms = 30;
    } else if (strcmp(name, "sim-flaky") == 0) {
        b.latency_ms = 150;
        b.jitter_ms = 100;
        b.tail_share = 0.05;
        b.tail_ms = 1500;
        b.faults[SIM_FAULT_429] = 0.02;
        b.faults[SIM_FAULT_500] = 0.03;
        b.faults[SIM_FAULT_503] = 0.02;
        b.faults[SIM_FAULT_RESET] = 0.01;
    }
    return b;
}

struct sim_profiles *sim_profiles_new(void)
{
    return calloc(1, sizeof(struct sim_profiles));
}

void sim_profiles_free(struct sim_profiles *ps)
{
    if (!ps)
        return;
    for (unsigned i = 0; i < ps->n; i++) {
        behaviour_release(&ps->all[i]->b);
        free(ps->all[i]->script);
        free(ps->all[i]);
    }
    free(ps);
}

static bool is_profile_name(struct span name)
{
    for (size_t i = 0; i < name.len; i++)
        if (!((name.p[i] >= 'a' && name.p[i] <= 'z') || (name.p[i] >= '0' && name.p[i] <= '9') ||
              name.p[i] == '-'))
            return false;
    return name.len > 0 && name.len <= SIM_PROFILE_NAME_MAX;
}

struct sim_profile *sim_profiles_get(struct sim_profiles *ps, struct span name)
{
    uint64_t h;
    struct sim_profile *p;

    if (!is_profile_name(name))
        return NULL;
    h = sim_hash(name);
    for (p = ps->chain[h % CHAINS]; p; p = p->next)
        if (p->name_hash == h && span_is(name, p->name))
            return p;
    if (ps->n == SIM_PROFILES_MAX || !(p = calloc(1, sizeof(*p))))
        return NULL;
    (void)span_copy(p->name, sizeof(p->name), name);
    p->name_hash = h;
    p->b = behaviour_default(p->name);
    p->index = ps->n;
    ps->all[ps->n++] = p;
    p->next = ps->chain[h % CHAINS];
    ps->chain[h % CHAINS] = p;
    return p;
}

struct sim_profile *sim_profiles_at(const struct sim_profiles *ps, unsigned index)
{
    return index < ps->n ? ps->all[index] : NULL;
}

void sim_profile_reset(struct sim_profile *p)
{
    behaviour_release(&p->b);
    p->b = behaviour_default(p->name);
    free(p->script);
    p->script = NULL;
    p->script_len = p->script_at = 0;
    p->n_posts = p->n_gets = 0;
}

/* ---- JSON ---- */

static bool set_range(struct sim_behaviour *b, const json_t *v)
{
    json_int_t lo = json_integer_value(json_is_array(v) ? json_array_get(v, 0) : v);
    json_int_t hi = json_integer_value(json_is_array(v) ? json_array_get(v, 1) : v);

    if ((!json_is_integer(v) && json_array_size(v) != 2) || lo < 0 || hi < lo || hi > 10000000)
        return false;
    b->output_min = (unsigned)lo;
    b->output_max = (unsigned)hi;
    return true;
}

static enum err_code set_faults(struct sim_behaviour *b, const json_t *v, struct err *err)
{
    const char *name;
    json_t *p;
    double sum = 0;

    if (!json_is_object(v))
        return err_set(err, ERR_BAD_BODY, "'faults' is not an object");
    memset(b->faults, 0, sizeof(b->faults));
    json_object_foreach((json_t *)(uintptr_t)v, name, p)
    {
        enum sim_fault f = fault_find(span_of(name));

        if (f == SIM_FAULT_COUNT || f == SIM_FAULT_NONE)
            return err_set(err, ERR_BAD_BODY, "no fault is named '%s'", name);
        if (!json_is_number(p) || json_number_value(p) < 0 || json_number_value(p) > 1)
            return err_set(err, ERR_BAD_BODY, "the probability of '%s' is not within 0 and 1", name);
        b->faults[f] = json_number_value(p);
        sum += b->faults[f];
    }
    if (sum > 1.000001)
        return err_set(err, ERR_BAD_BODY, "the probabilities of 'faults' add up to more than 1");
    return ERR_OK;
}

static enum err_code set_headers(char **out_lines, const json_t *v, struct err *err)
{
    struct buf lines AUTO(buf_release) = {.max = 65536};
    const char *name;
    json_t *text;

    if (!json_is_object(v))
        return err_set(err, ERR_BAD_BODY, "headers are not an object");
    json_object_foreach((json_t *)(uintptr_t)v, name, text)
    {
        if (!json_is_string(text))
            return err_set(err, ERR_BAD_BODY, "header '%s' is not a string", name);
        buf_addf(&lines, "%s: %s\r\n", name, json_string_value(text));
    }
    free(*out_lines);
    *out_lines = lines.len ? strdup(lines.p) : NULL;
    return ERR_OK;
}

static enum err_code set_member(struct sim_behaviour *b, const char *name, json_t *v, struct err *err)
{
    for (size_t i = 0; i < ARRAY_LEN(NUMBERS); i++)
        if (strcmp(name, NUMBERS[i].name) == 0) {
            double d = json_number_value(v);

            if (!json_is_number(v) || d < NUMBERS[i].min || d > NUMBERS[i].max)
                return err_set(err, ERR_BAD_BODY, "'%s' is not a number within %g and %g", name,
                               NUMBERS[i].min, NUMBERS[i].max);
            *number_at(b, NUMBERS[i].offset) = d;
            return ERR_OK;
        }
    for (size_t i = 0; i < ARRAY_LEN(FLAGS); i++)
        if (strcmp(name, FLAGS[i].name) == 0) {
            if (!json_is_boolean(v))
                return err_set(err, ERR_BAD_BODY, "'%s' is not a boolean", name);
            *flag_at(b, FLAGS[i].offset) = json_is_true(v);
            return ERR_OK;
        }
    if (strcmp(name, "output_tokens") == 0)
        return set_range(b, v) ? ERR_OK
                               : err_set(err, ERR_BAD_BODY, "'output_tokens' is neither N nor [MIN, MAX]");
    if (strcmp(name, "faults") == 0)
        return set_faults(b, v, err);
    if (strcmp(name, "headers") == 0)
        return set_headers(&b->headers, v, err);
    if (strcmp(name, "error_headers") == 0)
        return set_headers(&b->error_headers, v, err);
    if (strcmp(name, "require_key") == 0) {
        free(b->require_key);
        b->require_key = json_is_string(v) ? strdup(json_string_value(v)) : NULL;
        return ERR_OK;
    }
    if (strcmp(name, "models") == 0) {
        json_t *id;
        size_t i;

        json_array_foreach(v, i, id) if (!json_is_string(id)) return err_set(
            err, ERR_BAD_BODY, "'models' is not an array of strings");
        json_decref(b->models);
        b->models = json_is_array(v) ? json_incref(v) : NULL;
        return ERR_OK;
    }
    return err_set(err, ERR_BAD_BODY, "no member is named '%s'", name);
}

static enum err_code parse_script(const json_t *v, unsigned char **out_steps, struct err *err)
{
    size_t n = json_array_size(v);
    unsigned char *steps;

    if (!json_is_array(v) || n > SIM_SCRIPT_MAX)
        return err_set(err, ERR_BAD_BODY, "'script' is not an array of at most %u names", SIM_SCRIPT_MAX);
    steps = calloc(n + 1, 1);
    if (!steps)
        return ERR_NO_MEMORY;
    for (size_t i = 0; i < n; i++) {
        const char *name = json_string_value(json_array_get(v, i));
        enum sim_fault f = name ? fault_find(span_of(name)) : SIM_FAULT_COUNT;

        if (f == SIM_FAULT_COUNT) {
            free(steps);
            return err_set(err, ERR_BAD_BODY, "step %zu of 'script' is no fault's name", i);
        }
        steps[i] = (unsigned char)f;
    }
    *out_steps = steps;
    return ERR_OK;
}

static struct sim_behaviour behaviour_dup(const struct sim_behaviour *from)
{
    struct sim_behaviour b = *from;

    b.require_key = b.require_key ? strdup(b.require_key) : NULL;
    b.headers = b.headers ? strdup(b.headers) : NULL;
    b.error_headers = b.error_headers ? strdup(b.error_headers) : NULL;
    b.models = json_incref(b.models);
    return b;
}

enum err_code sim_profile_set(struct sim_profile *p, const json_t *doc, bool is_patch, struct err *err)
{
    struct sim_behaviour b = is_patch ? behaviour_dup(&p->b) : behaviour_default(p->name);
    const json_t *script = json_object_get(doc, "script");
    unsigned char *steps = NULL;
    const char *name;
    json_t *v;
    enum err_code e = json_is_object(doc) ? ERR_OK : err_set(err, ERR_BAD_BODY, "a profile is an object");

    json_object_foreach((json_t *)(uintptr_t)doc, name, v) if (!e && strcmp(name, "script") != 0) e =
        set_member(&b, name, v, err);
    if (!e && script)
        e = parse_script(script, &steps, err);
    if (e) {
        behaviour_release(&b);
        return e;
    }
    behaviour_release(&p->b);
    p->b = b;
    if (steps || !is_patch) {
        free(p->script);
        p->script = steps;
        p->script_len = json_array_size(script);
        p->script_at = 0;
    }
    return ERR_OK;
}

/* Ready lines back into the object they were made from. */
static json_t *headers_json(const char *lines)
{
    struct span rest = span_of(lines);
    json_t *doc = json_object();

    while (rest.len) {
        struct span line = span_split(&rest, '\n');
        struct span name = span_split(&line, ':');
        char key[256];

        (void)span_copy(key, sizeof(key), name);
        if (line.len >= 2) /* a space before it, a CR behind it */
            (void)json_object_set_new(doc, key, json_stringn(line.p + 1, line.len - 2));
    }
    return doc;
}

json_t *sim_profile_json(const struct sim_profile *p)
{
    struct sim_behaviour b = p->b;
    json_t *doc = json_object();
    json_t *faults = json_object();
    json_t *script = json_array();

    (void)json_object_set_new(doc, "name", json_string(p->name));
    for (size_t i = 0; i < ARRAY_LEN(NUMBERS); i++)
        (void)json_object_set_new(doc, NUMBERS[i].name, json_real(*number_at(&b, NUMBERS[i].offset)));
    for (size_t i = 0; i < ARRAY_LEN(FLAGS); i++)
        (void)json_object_set_new(doc, FLAGS[i].name, json_boolean(*flag_at(&b, FLAGS[i].offset)));
    (void)json_object_set_new(doc, "output_tokens", json_pack("[ii]", (int)b.output_min, (int)b.output_max));
    (void)json_object_set_new(doc, "require_key", b.require_key ? json_string(b.require_key) : json_null());
    (void)json_object_set_new(doc, "headers", headers_json(b.headers));
    (void)json_object_set_new(doc, "error_headers", headers_json(b.error_headers));
    (void)json_object_set_new(doc, "models", b.models ? json_incref(b.models) : json_null());
    for (unsigned f = 1; f < SIM_FAULT_COUNT; f++)
        if (b.faults[f] > 0)
            (void)json_object_set_new(faults, FAULTS[f].name, json_real(b.faults[f]));
    (void)json_object_set_new(doc, "faults", faults);
    for (size_t i = p->script_at; i < p->script_len; i++)
        (void)json_array_append_new(script, json_string(FAULTS[p->script[i]].name));
    (void)json_object_set_new(doc, "script", script); /* what is left of it */
    (void)json_object_set_new(doc, "posts", json_integer((json_int_t)p->n_posts));
    (void)json_object_set_new(doc, "gets", json_integer((json_int_t)p->n_gets));
    return doc;
}

const char *sim_profile_model(const struct sim_profile *p, size_t index)
{
    static const char *const BUILT_IN[] = {"sim-chat",  "sim-chat-mini", "sim-reason",
                                           "sim-embed", "sim-image",     "sim-speech"};

    if (p->b.models)
        return json_string_value(json_array_get(p->b.models, index));
    return index < ARRAY_LEN(BUILT_IN) ? BUILT_IN[index] : NULL;
}

/* ---- chance ---- */

enum { SALT_FAULT = 1, SALT_JITTER, SALT_TAIL, SALT_GET = 16 };

static double chance(const struct sim_profile *p, uint64_t seed, uint64_t number, uint64_t salt)
{
    return (double)(sim_mix(seed ^ p->name_hash, number * 64 + salt) >> 11) * 0x1p-53;
}

static enum sim_fault pick(const struct sim_behaviour *b, double u)
{
    for (unsigned f = 1; f < SIM_FAULT_COUNT; f++) {
        if (u < b->faults[f])
            return (enum sim_fault)f;
        u -= b->faults[f];
    }
    return SIM_FAULT_NONE;
}

struct sim_draw sim_profile_draw(struct sim_profile *p, uint64_t seed, bool is_post)
{
    uint64_t n = is_post ? p->n_posts++ : p->n_gets++;
    uint64_t salt = is_post ? 0 : SALT_GET;
    struct sim_draw d = {.number = n};
    double ms = p->b.latency_ms;

    if (is_post && p->script_at < p->script_len)
        d.fault = (enum sim_fault)p->script[p->script_at++];
    else
        d.fault = pick(&p->b, chance(p, seed, n, salt + SALT_FAULT));
    if (p->b.jitter_ms > 0)
        ms += p->b.jitter_ms * chance(p, seed, n, salt + SALT_JITTER);
    if (p->b.tail_share > 0 && chance(p, seed, n, salt + SALT_TAIL) < p->b.tail_share)
        ms += p->b.tail_ms;
    d.delay_us = (int64_t)(ms * 1000);
    return d;
}
