/* SPDX-License-Identifier: Apache-2.0 */
/* Writers hold a mutex; readers of label_text() do not: a slot is published with release order before its
 * number is handed out, and slots live in chunks that never move. */
#include "libshared/base/intern.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "libshared/base/compiler.h"
#include "libshared/base/hash.h"
#include "libshared/base/utf8.h"

#define CHUNK      1024u
#define TABLE_SIZE (INTERN_MAX * 2)
#define TEXT_MAX   128

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char **_Atomic chunks[INTERN_MAX / CHUNK];
static uint32_t *table; /* open addressing: label + 1, 0 is free */
static uint32_t count;

static size_t clean(struct span in, char out[TEXT_MAX + 4])
{
    size_t n = 0;

    for (size_t i = 0; i < in.len;) {
        size_t step = utf8_valid_len(in.p + i, in.len - i);
        const char *from = step ? in.p + i : "\xef\xbf\xbd";
        size_t add = step ? step : 3;

        if (n + add > TEXT_MAX)
            break;
        memcpy(out + n, from, add);
        n += add;
        i += step ? step : 1;
    }
    out[n] = '\0';
    return n;
}

static label add_locked(struct span text, uint32_t slot)
{
    char **chunk = chunks[count / CHUNK];
    char *copy = malloc(text.len + 1);

    if (!chunk) {
        chunk = calloc(CHUNK, sizeof(*chunk));
        if (!chunk)
            abort();
        atomic_store_explicit(&chunks[count / CHUNK], chunk, memory_order_release);
    }
    if (!copy)
        abort();
    memcpy(copy, text.p, text.len);
    copy[text.len] = '\0';
    chunk[count % CHUNK] = copy;
    table[slot] = count + 1;
    return count++;
}

static label find_or_add_locked(struct span text)
{
    uint32_t slot = (uint32_t)hash_bytes(text) % TABLE_SIZE;

    for (; table[slot]; slot = (slot + 1) % TABLE_SIZE)
        if (span_is(text, label_text(table[slot] - 1)))
            return table[slot] - 1;
    if (count >= INTERN_MAX - 1 && !span_is(text, "__overflow__"))
        return find_or_add_locked(SPAN_LIT("__overflow__"));
    return add_locked(text, slot);
}

/* The few names that a thread asks for again and again are found without cleaning, hashing and locking. Text that
 * equals a label's is clean. */
static label *recent(struct span text)
{
    static _Thread_local label memo[64];

    return &memo[(text.len * 31 + (unsigned char)text.p[0] * 7 + (unsigned char)text.p[text.len - 1]) %
                 ARRAY_LEN(memo)];
}

label intern(struct span text)
{
    char tmp[TEXT_MAX + 4];
    label *memo = text.len ? recent(text) : NULL;
    label l;
    size_t n;

    if (memo && *memo && span_is(text, label_text(*memo)))
        return *memo;
    n = clean(text, tmp);
    (void)pthread_mutex_lock(&lock);
    if (!table) {
        table = calloc(TABLE_SIZE, sizeof(*table));
        if (!table)
            abort();
        (void)find_or_add_locked(span_make("", 0));
    }
    l = find_or_add_locked(span_make(tmp, n));
    (void)pthread_mutex_unlock(&lock);
    if (memo)
        *memo = l;
    return l;
}

const char *label_text(label l)
{
    char **chunk = l < INTERN_MAX ? atomic_load_explicit(&chunks[l / CHUNK], memory_order_acquire) : NULL;

    return chunk && chunk[l % CHUNK] ? chunk[l % CHUNK] : "";
}
