/* SPDX-License-Identifier: Apache-2.0 */
/* The checker: the shared scanner with all limits on, plus the set of top-level keys.
 *
 * The set is a hash table on the stack that moves to the heap beyond 32 keys. It never costs more than a
 * bounded number of probes per key: bytes that make the (keyed) hash collide more often than chance are
 * refused, so the time stays linear even if the hash were broken. */
#include <stdio.h>
#include <stdlib.h>

#include "libshared/base/hash.h"
#include "libshared/json/json.h"
#include "libshared/json/json_priv.h"

#define STACK_SLOTS    64u
#define PROBES_PER_KEY 32u /* on average, at a load of at most one half; chance needs under 2 */

struct key_slot {
    uint64_t hash;
    uint32_t at; /* offset of the key's first byte; never 0, which means free */
    uint32_t len;
};

struct key_set {
    const char *base;
    struct key_slot *slots;
    size_t n_slots, count; /* n_slots is a power of two */
    uint64_t probes;
    struct key_slot on_stack[STACK_SLOTS];
};

static void key_set_init(struct key_set *ks, const char *base)
{
    ks->base = base;
    ks->slots = ks->on_stack;
    ks->n_slots = STACK_SLOTS;
    ks->count = 0;
    ks->probes = 0;
    memset(ks->on_stack, 0, sizeof(ks->on_stack));
}

static void key_set_release(struct key_set *ks)
{
    if (ks->slots != ks->on_stack)
        free(ks->slots);
}

static void key_set_place(struct key_slot *slots, size_t n_slots, struct key_slot k)
{
    size_t i = k.hash & (n_slots - 1);

    while (slots[i].at)
        i = (i + 1) & (n_slots - 1);
    slots[i] = k;
}

static bool key_set_grow(struct key_set *ks)
{
    size_t n = ks->n_slots * 4;
    struct key_slot *slots = calloc(n, sizeof(*slots));

    if (!slots)
        return false;
    for (size_t i = 0; i < ks->n_slots; i++)
        if (ks->slots[i].at)
            key_set_place(slots, n, ks->slots[i]);
    key_set_release(ks);
    ks->slots = slots;
    ks->n_slots = n;
    return true;
}

/* The key as it reads; `tmp` holds it only when it was escaped. */
static struct span plain_key(struct span key, char tmp[JSON_KEY_MAX])
{
    if (!key.len || !memchr(key.p, '\\', key.len))
        return key;
    return span_make(tmp, json_unescape(key, tmp, JSON_KEY_MAX, false));
}

static bool is_same_key(const struct key_set *ks, const struct key_slot *slot, struct span plain)
{
    char tmp[JSON_KEY_MAX];

    return span_eq(plain_key(span_make(ks->base + slot->at, slot->len), tmp), plain);
}

enum key_verdict { KEY_NEW, KEY_SEEN, KEY_NO_MEMORY, KEY_HOSTILE };

static enum key_verdict key_set_add(struct key_set *ks, struct span key)
{
    char tmp[JSON_KEY_MAX];
    struct span plain = plain_key(key, tmp);
    struct key_slot k = {hash_bytes(plain), (uint32_t)(key.p - ks->base), (uint32_t)key.len};
    size_t i;

    if (ks->count >= ks->n_slots / 2 && !key_set_grow(ks))
        return KEY_NO_MEMORY;
    for (i = k.hash & (ks->n_slots - 1); ks->slots[i].at; i = (i + 1) & (ks->n_slots - 1)) {
        if (ks->slots[i].hash == k.hash && is_same_key(ks, &ks->slots[i], plain))
            return KEY_SEEN;
        if (++ks->probes > (ks->count + STACK_SLOTS) * PROBES_PER_KEY)
            return KEY_HOSTILE;
    }
    ks->slots[i] = k;
    ks->count++;
    return KEY_NEW;
}

/* A duplicate is named only when its name cannot be somebody's text. */
static enum err_code refuse_duplicate(struct span key, size_t at, struct err *err)
{
    bool is_word = key.len > 0 && key.len <= 40;

    for (size_t i = 0; is_word && i < key.len; i++)
        is_word = (key.p[i] >= 'a' && key.p[i] <= 'z') || key.p[i] == '_';
    if (is_word)
        return err_set(err, ERR_BAD_BODY, "the key '%.*s' stands twice, again at byte %zu", (int)key.len,
                       key.p, at);
    return err_set(err, ERR_BAD_BODY, "a top-level key stands twice, again at byte %zu", at);
}

static enum err_code refuse(const struct json_scan *s, const char *base, struct err *err)
{
    return err_set(err, ERR_BAD_BODY, "not acceptable JSON: %s at byte %zu", s->why, (size_t)(s->p - base));
}

/* Out of line: the one copy of the checking scanner. */
static __attribute__((noinline)) bool check_value(struct json_scan *s)
{
    return json_scan_value(s, true);
}

static enum err_code check_key(struct key_set *ks, struct json_scan *s, unsigned max_key_bytes,
                               struct err *err)
{
    const char *from = s->p + 1; /* behind the quote, if it is one */
    struct span key;

    if (s->p == s->end || *s->p != '"') {
        s->why = "a key is missing";
        return refuse(s, ks->base, err);
    }
    s->p++;
    if (!json_scan_string(s, true))
        return refuse(s, ks->base, err);
    key = span_make(from, (size_t)(s->p - from) - 1);
    if (key.len > max_key_bytes || key.len > JSON_KEY_MAX)
        return err_set(err, ERR_BAD_BODY, "a top-level key is longer than %u bytes at byte %zu",
                       max_key_bytes, (size_t)(from - ks->base));
    switch (key_set_add(ks, key)) {
    case KEY_SEEN:
        return refuse_duplicate(key, (size_t)(from - ks->base), err);
    case KEY_HOSTILE:
        return err_set(err, ERR_BAD_BODY, "the top-level keys are made to collide");
    case KEY_NO_MEMORY:
        return err_set(err, ERR_NO_MEMORY, "no memory for the set of top-level keys");
    case KEY_NEW:
        break;
    }
    json_skip_space(s);
    if (s->p == s->end || *s->p != ':') {
        s->why = "a colon is missing";
        return refuse(s, ks->base, err);
    }
    s->p++;
    json_skip_space(s);
    return ERR_OK;
}

/* The top-level object member by member; what lies deeper is the scanner's. */
static enum err_code check_members(struct key_set *ks, struct json_scan *s, unsigned max_key_bytes,
                                   struct err *err)
{
    s->p++;
    json_skip_space(s);
    if (s->p < s->end && *s->p == '}') {
        s->p++;
        return ERR_OK;
    }
    for (;;) {
        enum err_code e = check_key(ks, s, max_key_bytes, err);

        if (e)
            return e;
        if (!check_value(s))
            return refuse(s, ks->base, err);
        json_skip_space(s);
        if (s->p < s->end && *s->p == '}') {
            s->p++;
            return ERR_OK;
        }
        if (s->p == s->end || *s->p != ',') {
            s->why = s->p == s->end ? "an object does not end" : "a comma or closing bracket is missing";
            return refuse(s, ks->base, err);
        }
        s->p++;
        json_skip_space(s);
    }
}

static enum err_code check_object(struct json_scan *s, const char *base, unsigned max_key_bytes,
                                  struct err *err)
{
    struct key_set ks AUTO(key_set_release);

    key_set_init(&ks, base);
    if (s->max_depth < 1 || s->values >= s->max_values) {
        s->why = s->max_depth < 1 ? "the nesting is too deep" : "there are too many values";
        return refuse(s, base, err);
    }
    s->max_depth--;
    s->values++;
    return check_members(&ks, s, max_key_bytes, err);
}

enum err_code json_check(struct span text, const struct json_limits *limits, struct err *err)
{
    struct json_scan s;
    enum err_code e = ERR_OK;

    if (!text.len)
        return err_set(err, ERR_BAD_BODY, "not acceptable JSON: it is empty");
    if (text.len >= UINT32_MAX)
        return err_set(err, ERR_BAD_BODY, "not acceptable JSON: it is larger than 4 GiB");
    s.p = text.p;
    s.end = text.p + text.len;
    s.values = 0;
    s.max_values = limits->max_values;
    s.max_depth = limits->max_depth < JSON_DEPTH_MAX ? limits->max_depth : JSON_DEPTH_MAX;
    json_skip_space(&s);
    if (s.p < s.end && *s.p == '{')
        e = check_object(&s, text.p, limits->max_key_bytes, err);
    else if (!check_value(&s))
        e = refuse(&s, text.p, err);
    if (e)
        return e;
    json_skip_space(&s);
    if (s.p < s.end) {
        s.why = "something follows the value";
        return refuse(&s, text.p, err);
    }
    return ERR_OK;
}
