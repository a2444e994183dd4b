/* SPDX-License-Identifier: Apache-2.0 */
/* Word i of an answer is a pure function of (seed, choice, i), so a stream keeps a position and nothing else.
 */
#include "gatewayd/sim/sim_text.h"

/* Mostly plain; the last rows are what trips relays: escapes, quotes, line breaks, two to four byte
 * characters. */
static const struct word {
    struct span plain, json;
} WORDS[] = {
#define W(w)                                                                                                 \
    {                                                                                                        \
        SPAN_LIT(w), SPAN_LIT(w)                                                                             \
    }
#define E(w, j)                                                                                              \
    {                                                                                                        \
        SPAN_LIT(w), SPAN_LIT(j)                                                                             \
    }
    W("the"),
    W("a"),
    W("model"),
    W("answer"),
    W("token"),
    W("stream"),
    W("value"),
    W("query"),
    W("system"),
    W("result"),
    W("of"),
    W("and"),
    W("with"),
    W("from"),
    W("into"),
    W("state"),
    W("every"),
    W("under"),
    W("load"),
    W("small"),
    W("large"),
    W("steady"),
    W("request"),
    W("reply"),
    W("first"),
    W("second"),
    W("third"),
    W("last"),
    W("keeps"),
    W("moves"),
    W("holds"),
    W("counts"),
    W("reads"),
    W("writes"),
    W("returns"),
    W("is"),
    W("was"),
    W("then"),
    W("here"),
    W("there"),
    W("again"),
    W("only"),
    W("never"),
    W("often"),
    W("between"),
    W("before"),
    W("after"),
    W("while"),
    W("because"),
    W("data"),
    W("time"),
    W("one"),
    W("two"),
    W("ten"),
    W("na\u00efve"),
    W("gr\u00f6\u00dfe"),
    W("\u65e5\u672c"),
    W("\U0001f642"),
    W("<b>"),
    W("&"),
    E("\"so\"", "\\\"so\\\""),
    E("a\\b", "a\\\\b"),
    E("x\ny", "x\\ny"),
    E("p\tq", "p\\tq"),
#undef W
#undef E
};
_Static_assert(ARRAY_LEN(WORDS) == 64, "a word is picked by six bits");
#define PLAIN_WORDS 54u /* those that need no escape even inside a string inside a string */

uint64_t sim_hash(struct span s)
{
    uint64_t h = 0xcbf29ce484222325u;

    for (size_t i = 0; i < s.len; i++)
        h = (h ^ (unsigned char)s.p[i]) * 0x100000001b3u;
    return h;
}

uint64_t sim_mix(uint64_t seed, uint64_t counter)
{
    uint64_t z = seed + (counter + 1) * 0x9e3779b97f4a7c15u;

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static void add_fixed(const struct sim_text *t, unsigned from, unsigned to, bool is_json, struct buf *out)
{
    size_t a = (size_t)from * 4, b = (size_t)to * 4;
    size_t start = out->len;

    if (a > t->fixed.len)
        a = t->fixed.len;
    if (b > t->fixed.len)
        b = t->fixed.len;
    /* A character belongs to the token that its first byte is in. */
    while (a < t->fixed.len && ((unsigned char)t->fixed.p[a] & 0xc0) == 0x80)
        a++;
    while (b < t->fixed.len && ((unsigned char)t->fixed.p[b] & 0xc0) == 0x80)
        b++;
    if (!is_json) {
        buf_add(out, span_make(t->fixed.p + a, b - a));
        return;
    }
    buf_add_json(out, span_make(t->fixed.p + a, b - a));
    memmove(out->p + start, out->p + start + 1, out->len - start - 1); /* without its quotes */
    out->len -= 2;
}

/* SIM_TEXT_JSON is one object whose only string holds the words: the frame belongs to the first and last
 * token. */
static void add_object_word(const struct sim_text *t, uint64_t seed, unsigned i, bool is_json,
                            struct buf *out)
{
    if (i == 0)
        buf_addz(out, is_json ? "{\\\"answer\\\":\\\"" : "{\"answer\":\"");
    else
        buf_addc(out, ' ');
    buf_add(out, WORDS[sim_mix(seed, i) % PLAIN_WORDS].plain);
    if (i + 1 == t->tokens)
        buf_addz(out, is_json ? "\\\"}" : "\"}");
}

static void add_text(const struct sim_text *t, unsigned choice, unsigned from, unsigned to, bool is_json,
                     struct buf *out)
{
    uint64_t seed = t->seed + choice * 0xd1342543de82ef95u;

    if (t->kind == SIM_TEXT_FIXED) {
        add_fixed(t, from, to, is_json, out);
        return;
    }
    for (unsigned i = from; i < to; i++) {
        const struct word *w = &WORDS[sim_mix(seed, i) >> 58];

        if (t->kind == SIM_TEXT_JSON) {
            add_object_word(t, seed, i, is_json, out);
            continue;
        }
        if (i)
            buf_addc(out, ' ');
        buf_add(out, is_json ? w->json : w->plain);
    }
}

void sim_text_add_json(const struct sim_text *t, unsigned choice, unsigned from, unsigned to, struct buf *out)
{
    add_text(t, choice, from, to, true, out);
}

void sim_text_add(const struct sim_text *t, unsigned choice, unsigned from, unsigned to, struct buf *out)
{
    add_text(t, choice, from, to, false, out);
}

static unsigned hex4(const char *p)
{
    unsigned v = 0;

    for (int i = 0; i < 4; i++) {
        unsigned char c = (unsigned char)p[i];

        v = v * 16 + (c <= 0x39 ? c - 0x30u : (c | 0x20u) - 0x61u + 10u);
    }
    return v;
}

uint64_t sim_unescaped_bytes(struct span raw)
{
    uint64_t n = 0;
    size_t i = 0;

    while (i < raw.len) {
        unsigned u;

        if (raw.p[i] != '\\') {
            const char *next = memchr(raw.p + i, '\\', raw.len - i);
            size_t run = next ? (size_t)(next - raw.p) - i : raw.len - i;

            n += run;
            i += run;
            continue;
        }
        if (i + 5 >= raw.len || raw.p[i + 1] != 'u') {
            n++;
            i += 2;
            continue;
        }
        u = hex4(raw.p + i + 2);
        i += 6;
        if (u >= 0xd800 && u < 0xdc00 && i + 5 < raw.len && raw.p[i] == '\\' && raw.p[i + 1] == 'u') {
            n += 4;
            i += 6;
        } else {
            n += u < 0x80 ? 1 : u < 0x800 ? 2 : 3;
        }
    }
    return n;
}

void sim_add_base64(struct buf *out, struct span bytes)
{
    static const char DIGITS[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const unsigned char *p = (const unsigned char *)bytes.p;

    for (size_t i = 0; i < bytes.len; i += 3) {
        size_t left = bytes.len - i;
        unsigned v = (unsigned)p[i] << 16 | (left > 1 ? (unsigned)p[i + 1] << 8 : 0u) |
                     (left > 2 ? (unsigned)p[i + 2] : 0u);
        char q[4] = {DIGITS[v >> 18], DIGITS[v >> 12 & 63], left > 1 ? DIGITS[v >> 6 & 63] : '=',
                     left > 2 ? DIGITS[v & 63] : '='};

        buf_add(out, span_make(q, 4));
    }
}
