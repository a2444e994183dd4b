/* SPDX-License-Identifier: Apache-2.0 */
/* JSON: the checker against the walkers, and both against jansson wherever the two mean to agree. */
#include <string.h>

#include "libshared/base/utf8.h"
#include "tests/fuzz/must.h"

/* Both libraries have these enumerators: ours are called OURS_… here. */
#define JSON_NULL   OURS_NULL
#define JSON_FALSE  OURS_FALSE
#define JSON_TRUE   OURS_TRUE
#define JSON_STRING OURS_STRING
#define JSON_ARRAY  OURS_ARRAY
#define JSON_OBJECT OURS_OBJECT
#include "libshared/json/json.h"
#undef JSON_NULL
#undef JSON_FALSE
#undef JSON_TRUE
#undef JSON_STRING
#undef JSON_ARRAY
#undef JSON_OBJECT

#include <jansson.h>

static const struct json_limits USUAL = {64, 200000, 256};
static const struct json_limits WIDE = {JSON_DEPTH_MAX, UINT32_MAX, JSON_KEY_MAX};
static const struct json_limits NARROW = {3, 6, 4};

static void must_lie_within(struct span part, struct span whole)
{
    MUST(part.p >= whole.p && part.p + part.len <= whole.p + whole.len);
}

static void try_scalars(struct json_value v)
{
    char text[64];
    uint64_t n;
    size_t len = 0;

    if (json_u64(v, &n))
        MUST(v.type == JSON_NUMBER);
    if (!json_str(v, text, sizeof(text), &len))
        return;
    MUST(v.type == OURS_STRING && len < sizeof(text) && strlen(text) == len);
    for (size_t i = 0, step; i < len; i += step) {
        step = utf8_valid_len(text + i, len - i);
        MUST(step > 0);
    }
}

/* Walks everything below `v`; the fuzzed depth is small enough to recurse here. */
static void walk_all(struct json_value v, bool was_checked, unsigned depth, size_t *count)
{
    struct json_walk w;
    struct json_member m;
    bool is_container = json_walk(&w, v.raw);

    ++*count;
    try_scalars(v);
    MUST(is_container == (v.type == OURS_OBJECT || v.type == OURS_ARRAY));
    if (!is_container || depth == 64)
        return;
    while (json_next(&w, &m)) {
        must_lie_within(m.value.raw, v.raw);
        MUST(m.value.type != JSON_INVALID && m.value.raw.len > 0 && m.start < v.raw.len);
        if (w.is_object) {
            must_lie_within(m.key, v.raw);
            MUST(v.raw.p[m.start] == '"' && m.key.p == v.raw.p + m.start + 1);
        }
        walk_all(m.value, was_checked, depth + 1, count);
    }
    MUST(!w.bad || !was_checked);
    MUST(w.bad || w.p == v.raw.p + v.raw.len);
}

static void walk_unchecked(struct span text)
{
    struct json_value v = json_value(text);
    struct json_walk w;
    struct json_member m;
    size_t count = 0;

    (void)json_path(text, "a", "b", NULL);
    if (v.type != JSON_INVALID) {
        must_lie_within(v.raw, text);
        walk_all(v, true, 0, &count); /* a value whose extent is known is well-formed inside */
        return;
    }
    /* Malformed somewhere: the walk must end, and say so. */
    if (!json_walk(&w, text))
        return;
    while (json_next(&w, &m))
        must_lie_within(m.value.raw, text);
    MUST(w.bad);
    MUST(w.p >= text.p && w.p <= text.p + text.len);
    MUST(!json_next(&w, &m) && w.bad);
}

/* ---- jansson ---- */

/* What it refuses although the grammar allows it. */
static bool is_janssons_own_rule(const json_error_t *e)
{
    return json_error_code(e) == json_error_numeric_overflow ||
           json_error_code(e) == json_error_null_byte_in_key ||
           json_error_code(e) == json_error_stack_overflow || strstr(e->text, "Unicode") != NULL;
}

/* What we refuse although the grammar allows it. */
static bool is_our_own_rule(const struct err *e)
{
    return strstr(e->text, "stands twice") || strstr(e->text, "longer than") || strstr(e->text, "collide") ||
           strstr(e->text, "too deep");
}

static void compare_member(const json_t *theirs, const struct json_member *m)
{
    char key[JSON_KEY_MAX + 1], text[4096];
    struct json_value quoted = {OURS_STRING, {m->key.p - 1, m->key.len + 2}};
    const json_t *their_value;
    uint64_t n;
    size_t len;

    if (!json_str(quoted, key, sizeof(key), NULL))
        return;
    MUST(json_key_is(m->key, key));
    their_value = json_object_get(theirs, key);
    MUST(their_value);
    MUST(json_is_string(their_value) == (m->value.type == OURS_STRING));
    MUST(json_is_object(their_value) == (m->value.type == OURS_OBJECT));
    MUST(json_is_array(their_value) == (m->value.type == OURS_ARRAY));
    MUST(json_is_number(their_value) == (m->value.type == JSON_NUMBER));
    MUST(json_is_true(their_value) == (m->value.type == OURS_TRUE));
    MUST(json_is_null(their_value) == (m->value.type == OURS_NULL));
    if (json_is_integer(their_value)) {
        MUST(json_u64(m->value, &n) == (json_integer_value(their_value) >= 0));
        MUST(json_integer_value(their_value) < 0 || n == (uint64_t)json_integer_value(their_value));
    }
    if (json_str(m->value, text, sizeof(text), &len))
        MUST(len == json_string_length(their_value) &&
             memcmp(text, json_string_value(their_value), len) == 0);
}

static void compare_members(const json_t *theirs, struct span text)
{
    struct json_walk w;
    struct json_member m;
    size_t n = 0;

    if (!json_is_object(theirs))
        return;
    MUST(json_walk(&w, text) && w.is_object);
    while (json_next(&w, &m)) {
        compare_member(theirs, &m);
        n++;
    }
    MUST(n == json_object_size(theirs));
}

static void compare(struct span text)
{
    json_error_t their_error = {0};
    struct err our_error = {0};
    json_t *theirs = json_loadb(text.p, text.len, JSON_DECODE_ANY | JSON_ALLOW_NUL, &their_error);
    enum err_code ours = json_check(text, &WIDE, &our_error);

    if (ours == ERR_OK) {
        MUST(theirs || is_janssons_own_rule(&their_error));
        if (theirs)
            compare_members(theirs, text);
    } else {
        MUST(ours == ERR_BAD_BODY && our_error.text[0]);
        MUST(!theirs || is_our_own_rule(&our_error));
    }
    json_decref(theirs);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct span text = span_make(data, size);
    bool is_ok = json_check(text, &USUAL, NULL) == ERR_OK;
    size_t count = 0;

    if (json_check(text, &NARROW, NULL) == ERR_OK)
        MUST(is_ok);
    if (is_ok) {
        MUST(json_check(text, &WIDE, NULL) == ERR_OK);
        walk_all(json_value(text), true, 0, &count);
        MUST(count <= USUAL.max_values);
    }
    walk_unchecked(text);
    /* jansson loses a NUL that it has looked at: it takes "0\0" for a number. */
    if (!memchr(data, '\0', size))
        compare(text);
    else
        MUST(!is_ok);
    return 0;
}
