/* SPDX-License-Identifier: Apache-2.0 */
/* Builds the tree from libyaml's events; the only user of yaml.h. Recursion-free: open collections are frames
 * of a bounded stack.
 *
 * The tricky part is the placeholder. `{token: ${TOKEN}}` is no YAML, since `{` and `}` end plain text there.
 * So before parsing, every ASCII punctuation byte b of a placeholder becomes the private-use character U+F800
 * + b, which YAML takes for a letter, and becomes b again in the tree. One character replaces one, so columns
 * stay right. A text that holds such characters itself is refused. */
#include "libshared/yaml/yaml_doc.h"

#include <stdlib.h>
#include <yaml.h>

#include "libshared/base/buf.h"
#include "libshared/base/hash.h"

#define CHUNK_BYTES 16384u
#define ANCHORS_MAX 1000u
#define KEY_SHOWN   24u /* a longer key is not repeated in an error: it may be a secret in the wrong place */

struct chunk {
    struct chunk *next;
    size_t size;
};

struct yaml_doc {
    struct chunk *chunks;
    char *at, *end;
    struct yaml_node *root;
};

struct anchor {
    struct anchor *next;
    struct span name;
    struct yaml_node *node;
};

struct frame {
    struct yaml_node *node;
    struct yaml_item *last;
    struct yaml_node *key; /* of a mapping: waits for its value */
};

struct build {
    struct yaml_doc *doc;
    const struct yaml_limits *limits;
    struct yaml_place *where;
    struct err *err;
    struct frame stack[YAML_DEPTH_CAP];
    unsigned depth;
    struct anchor *anchors;
    unsigned n_anchors;
    size_t nodes;
    bool has_document;
};

/* ---- memory ---- */

static void *take(struct yaml_doc *d, size_t bytes)
{
    size_t need = (bytes + 15) & ~(size_t)15;
    void *p;

    if (!d->chunks || (size_t)(d->end - d->at) < need) {
        size_t size = need + 32 > CHUNK_BYTES ? need + 32 : CHUNK_BYTES;
        struct chunk *c = calloc(1, size);

        if (!c)
            return NULL;
        c->next = d->chunks;
        c->size = size;
        d->chunks = c;
        d->at = (char *)c + 16;
        d->end = (char *)c + size;
    }
    p = d->at;
    d->at += need;
    return p;
}

void yaml_doc_free(struct yaml_doc *d)
{
    if (!d)
        return;
    while (d->chunks) {
        struct chunk *next = d->chunks->next;

        explicit_bzero(d->chunks, d->chunks->size);
        free(d->chunks);
        d->chunks = next;
    }
    free(d);
}

const struct yaml_node *yaml_doc_root(const struct yaml_doc *d)
{
    return d->root;
}

const struct yaml_node *yaml_get(const struct yaml_node *map, const char *key)
{
    if (!map || map->type != NODE_MAP)
        return NULL;
    for (const struct yaml_item *it = map->items; it; it = it->next)
        if (span_is(it->key->text, key))
            return it->value;
    return NULL;
}

/* ---- placeholders ---- */

static bool is_word(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

/* Length of the placeholder that begins at `p`, `$${…}` (a literal one) included; 0 when none does. */
static size_t placeholder_len(const char *p, const char *end)
{
    const char *q = p;

    if (end - q >= 2 && q[0] == '$' && q[1] == '$')
        q++;
    if (end - q < 4 || q[0] != '$' || q[1] != '{' || !is_word(q[2]))
        return 0;
    for (q += 2; q < end && is_word(*q);)
        q++;
    if (end - q >= 2 && q[0] == ':' && q[1] == '-')
        while (q < end && *q != '}' && *q != '\n' && *q != '\r')
            q++;
    return q < end && *q == '}' ? (size_t)(q + 1 - p) : 0;
}

static bool is_masked(char c)
{
    return (unsigned char)c < 0x80 && !is_word(c) && c != '\t' && c >= ' ';
}

static bool is_reserved(const char *p, const char *end)
{
    return end - p >= 3 && (unsigned char)p[0] == 0xef && ((unsigned char)p[1] & 0xfe) == 0xa0;
}

/* Position of byte `at` in `text`, columns counted in characters. */
static struct yaml_place place_of_byte(struct span text, size_t at)
{
    struct yaml_place w = {1, 1};

    for (size_t i = 0; i < at && i < text.len; i++) {
        if (text.p[i] == '\n')
            w = (struct yaml_place){w.line + 1, 1};
        else if (((unsigned char)text.p[i] & 0xc0) != 0x80)
            w.column++;
    }
    return w;
}

/* `out` gets the text with placeholders masked. Reserved at once, so that no half copy is left behind by
 * growth. */
static enum err_code mask(struct build *b, struct span text, struct buf *out)
{
    const char *end = text.p + text.len;
    size_t extra = 0;

    for (int pass = 0; pass < 2; pass++) {
        for (const char *p = text.p; p < end;) {
            size_t n = *p == '$' ? placeholder_len(p, end) : 0;

            if (!n && is_reserved(p, end)) {
                *b->where = place_of_byte(text, (size_t)(p - text.p));
                return err_set(b->err, ERR_CONFIG, "characters U+F800 to U+F87F cannot be used");
            }
            for (size_t i = 0; i < (n ? n : 1); i++, p++) {
                char m[3] = {(char)0xef, (char)(0xa0 | (*p >> 6)), (char)(0x80 | (*p & 0x3f))};

                if (n && is_masked(*p) && pass == 0)
                    extra += 2;
                else if (pass == 1)
                    buf_add(out, n && is_masked(*p) ? span_make(m, 3) : span_make(p, 1));
            }
        }
        if (pass == 0 && buf_reserve(out, text.len + extra + 1))
            return err_set(b->err, ERR_NO_MEMORY, "no memory for the text");
    }
    return ERR_OK;
}

static struct span unmask_copy(struct yaml_doc *d, const char *p, size_t len)
{
    char *copy = take(d, len + 1);
    size_t n = 0;

    if (!copy)
        return (struct span){NULL, 0};
    for (size_t i = 0; i < len;) {
        if (is_reserved(p + i, p + len)) {
            copy[n++] = (char)((p[i + 1] & 1) << 6 | (p[i + 2] & 0x3f));
            i += 3;
        } else {
            copy[n++] = p[i++];
        }
    }
    copy[n] = '\0';
    return span_make(copy, n);
}

/* ---- the tree ---- */

static enum err_code fail_at(struct build *b, struct yaml_place w, enum err_code code, const char *text)
{
    *b->where = w;
    return err_set(b->err, code, "%s", text);
}

static struct yaml_place place_of(const yaml_mark_t *m)
{
    return (struct yaml_place){(unsigned)m->line + 1, (unsigned)m->column + 1};
}

static struct yaml_node *new_node(struct build *b, enum yaml_type type, const yaml_event_t *ev)
{
    struct yaml_node *n = take(b->doc, sizeof(*n));

    if (!n) {
        (void)fail_at(b, place_of(&ev->start_mark), ERR_NO_MEMORY, "no memory for the document");
        return NULL;
    }
    *n = (struct yaml_node){.type = type, .place = place_of(&ev->start_mark), .size_ = 1};
    if (++b->nodes > b->limits->max_nodes) {
        (void)fail_at(b, n->place, ERR_CONFIG, "the document has too many values");
        return NULL;
    }
    return n;
}

static enum err_code add(struct build *b, struct yaml_node *n, struct yaml_place at)
{
    struct frame *f = b->depth ? &b->stack[b->depth - 1] : NULL;
    struct yaml_item *it;

    if (!f) {
        b->doc->root = n;
        return ERR_OK;
    }
    if (f->node->type == NODE_MAP && !f->key) {
        if (n->type != NODE_TEXT || !n->text.len)
            return fail_at(b, at, ERR_CONFIG, "a key must be text");
        f->key = n;
        return ERR_OK;
    }
    it = take(b->doc, sizeof(*it));
    if (!it)
        return fail_at(b, at, ERR_NO_MEMORY, "no memory for the document");
    *it = (struct yaml_item){.key = f->key, .value = n};
    if (f->last)
        f->last->next = it;
    else
        f->node->items = it;
    f->last = it;
    f->key = NULL;
    f->node->n_items++;
    f->node->size_ += n->size_ + (it->key ? 1 : 0);
    if (n->height_ + 1 > f->node->height_)
        f->node->height_ = n->height_ + 1;
    return ERR_OK;
}

static enum err_code remember(struct build *b, const yaml_char_t *name, struct yaml_node *n)
{
    struct anchor *a;
    struct span s;

    if (!name)
        return ERR_OK;
    if (++b->n_anchors > ANCHORS_MAX)
        return fail_at(b, n->place, ERR_CONFIG, "the document has too many anchors");
    a = take(b->doc, sizeof(*a));
    s = unmask_copy(b->doc, (const char *)name, strlen((const char *)name));
    if (!a || !s.p)
        return fail_at(b, n->place, ERR_NO_MEMORY, "no memory for the document");
    *a = (struct anchor){.next = b->anchors, .name = s, .node = n};
    b->anchors = a;
    return ERR_OK;
}

static enum err_code on_alias(struct build *b, const yaml_event_t *ev)
{
    struct yaml_place at = place_of(&ev->start_mark);
    struct span name = span_of((const char *)ev->data.alias.anchor);

    for (const struct anchor *a = b->anchors; a; a = a->next) {
        if (!span_eq(a->name, name))
            continue;
        if (a->node->is_open_)
            return fail_at(b, at, ERR_CONFIG, "an alias cannot stand inside its own anchor");
        b->nodes += a->node->size_;
        if (b->nodes > b->limits->max_nodes)
            return fail_at(b, at, ERR_CONFIG,
                           "the document has too many values once its aliases are written out");
        if (b->depth + a->node->height_ > b->limits->max_depth)
            return fail_at(b, at, ERR_CONFIG, "the document is nested too deeply");
        return add(b, a->node, at);
    }
    return fail_at(b, at, ERR_CONFIG, "an alias names an anchor that is not there");
}

static bool is_null_text(struct span s)
{
    return !s.len || span_is(s, "~") || span_is(s, "null") || span_is(s, "Null") || span_is(s, "NULL");
}

static enum err_code on_scalar(struct build *b, const yaml_event_t *ev)
{
    struct yaml_node *n = new_node(b, NODE_TEXT, ev);
    enum err_code e;

    if (!n)
        return b->err ? b->err->code : ERR_CONFIG;
    if (ev->data.scalar.tag)
        return fail_at(b, n->place, ERR_CONFIG, "tags are not supported");
    n->text = unmask_copy(b->doc, (const char *)ev->data.scalar.value, ev->data.scalar.length);
    if (!n->text.p)
        return fail_at(b, n->place, ERR_NO_MEMORY, "no memory for the document");
    if (strlen(n->text.p) != n->text.len)
        return fail_at(b, n->place, ERR_CONFIG, "text cannot hold a NUL character");
    n->is_quoted = ev->data.scalar.style != YAML_PLAIN_SCALAR_STYLE;
    if (!n->is_quoted && is_null_text(n->text))
        n->type = NODE_NULL;
    e = remember(b, ev->data.scalar.anchor, n);
    return e ? e : add(b, n, n->place);
}

static enum err_code on_open(struct build *b, const yaml_event_t *ev, enum yaml_type type,
                             const yaml_char_t *anchor, const yaml_char_t *tag)
{
    struct yaml_node *n = new_node(b, type, ev);
    enum err_code e;

    if (!n)
        return b->err ? b->err->code : ERR_CONFIG;
    if (tag)
        return fail_at(b, n->place, ERR_CONFIG, "tags are not supported");
    if (b->depth >= b->limits->max_depth || b->depth >= YAML_DEPTH_CAP)
        return fail_at(b, n->place, ERR_CONFIG, "the document is nested too deeply");
    if (b->depth && b->stack[b->depth - 1].node->type == NODE_MAP && !b->stack[b->depth - 1].key)
        return fail_at(b, n->place, ERR_CONFIG, "a key must be text");
    e = remember(b, anchor, n);
    n->is_open_ = true;
    b->stack[b->depth++] = (struct frame){.node = n};
    return e;
}

static enum err_code fail_duplicate(struct build *b, const struct yaml_node *key)
{
    bool is_shown = key->text.len <= KEY_SHOWN;

    for (size_t i = 0; i < key->text.len; i++)
        is_shown = is_shown && key->text.p[i] >= ' ' && key->text.p[i] <= '~';
    *b->where = key->place;
    if (!is_shown)
        return err_set(b->err, ERR_CONFIG, "a key is there twice");
    return err_set(b->err, ERR_CONFIG, "key '%s' is there twice", key->text.p);
}

/* Finds the first key that repeats an earlier one of the same mapping. */
static enum err_code check_keys(struct build *b, const struct yaml_node *map)
{
    size_t slots = 8;
    const struct yaml_node **table;
    const struct yaml_node *twice = NULL;

    while (slots < map->n_items * 2)
        slots *= 2;
    table = calloc(slots, sizeof(*table));
    if (!table)
        return fail_at(b, map->place, ERR_NO_MEMORY, "no memory for the document");
    for (const struct yaml_item *it = map->items; it && !twice; it = it->next) {
        size_t i = (size_t)hash_bytes(it->key->text) & (slots - 1);

        while (table[i] && !span_eq(table[i]->text, it->key->text))
            i = (i + 1) & (slots - 1);
        if (table[i])
            twice = it->key;
        table[i] = it->key;
    }
    free(table);
    return twice ? fail_duplicate(b, twice) : ERR_OK;
}

static enum err_code on_close(struct build *b)
{
    struct yaml_node *n = b->stack[--b->depth].node;
    enum err_code e = n->type == NODE_MAP ? check_keys(b, n) : ERR_OK;

    n->is_open_ = false;
    return e ? e : add(b, n, n->place);
}

static enum err_code on_event(struct build *b, const yaml_event_t *ev)
{
    switch (ev->type) {
    case YAML_DOCUMENT_START_EVENT:
        if (b->has_document)
            return fail_at(b, place_of(&ev->start_mark), ERR_CONFIG, "only one document is allowed");
        b->has_document = true;
        return ERR_OK;
    case YAML_ALIAS_EVENT:
        return on_alias(b, ev);
    case YAML_SCALAR_EVENT:
        return on_scalar(b, ev);
    case YAML_SEQUENCE_START_EVENT:
        return on_open(b, ev, NODE_LIST, ev->data.sequence_start.anchor, ev->data.sequence_start.tag);
    case YAML_MAPPING_START_EVENT:
        return on_open(b, ev, NODE_MAP, ev->data.mapping_start.anchor, ev->data.mapping_start.tag);
    case YAML_SEQUENCE_END_EVENT:
    case YAML_MAPPING_END_EVENT:
        return on_close(b);
    case YAML_NO_EVENT:
    case YAML_STREAM_START_EVENT:
    case YAML_STREAM_END_EVENT:
    case YAML_DOCUMENT_END_EVENT:
    default:
        return ERR_OK;
    }
}

static void wipe_event(yaml_event_t *ev)
{
    if (ev->type == YAML_SCALAR_EVENT)
        explicit_bzero(ev->data.scalar.value, ev->data.scalar.length);
    yaml_event_delete(ev);
}

/* libyaml's own texts are fixed strings, so nothing of the document can leak through them. */
static enum err_code fail_syntax(struct build *b, const yaml_parser_t *p, struct span text)
{
    const char *problem = p->problem ? p->problem : "not understandable";
    size_t at = p->problem_mark.index;

    if (p->error == YAML_MEMORY_ERROR)
        return err_set(b->err, ERR_NO_MEMORY, "no memory for the document");
    if (p->error == YAML_READER_ERROR) {
        *b->where = place_of_byte(text, p->problem_offset);
        return err_set(b->err, ERR_CONFIG, "not valid UTF-8 text: %s", problem);
    }
    *b->where = place_of(&p->problem_mark);
    /* index counts characters; only worth a hint while the text before is ASCII, which indentation is */
    if (at < text.len && text.p[at] == '\t')
        problem = "a tab cannot be used for indentation";
    if (p->context)
        return err_set(b->err, ERR_CONFIG, "%s %s", problem, p->context);
    return err_set(b->err, ERR_CONFIG, "%s", problem);
}

static enum err_code parse(struct build *b, struct span text)
{
    yaml_parser_t p;
    enum err_code e = ERR_OK;
    bool is_end = false;

    if (!yaml_parser_initialize(&p))
        return err_set(b->err, ERR_NO_MEMORY, "no memory for the document");
    yaml_parser_set_encoding(&p, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&p, (const unsigned char *)text.p, text.len);
    while (!e && !is_end) {
        yaml_event_t ev;

        if (!yaml_parser_parse(&p, &ev)) {
            e = fail_syntax(b, &p, text);
            break;
        }
        e = on_event(b, &ev);
        is_end = ev.type == YAML_STREAM_END_EVENT;
        wipe_event(&ev);
    }
    if (p.buffer.start)
        explicit_bzero(p.buffer.start, (size_t)(p.buffer.end - p.buffer.start));
    if (p.raw_buffer.start)
        explicit_bzero(p.raw_buffer.start, (size_t)(p.raw_buffer.end - p.raw_buffer.start));
    yaml_parser_delete(&p);
    return e;
}

static void wipe(struct buf *b)
{
    if (b->p)
        explicit_bzero(b->p, b->cap);
    buf_release(b);
}

struct yaml_doc *yaml_doc_new(struct span text, const struct yaml_limits *limits, struct yaml_place *where,
                              struct err *err)
{
    struct build b = {.limits = limits, .where = where, .err = err};
    struct buf masked AUTO(wipe) = {0};
    enum err_code e;

    *where = (struct yaml_place){0, 0};
    if (text.len > limits->max_bytes) {
        (void)err_set(err, ERR_CONFIG, "the text is larger than %zu bytes", limits->max_bytes);
        return NULL;
    }
    if (span_starts(text, SPAN_LIT("\xef\xbb\xbf")))
        text = span_make(text.p + 3, text.len - 3);
    b.doc = calloc(1, sizeof(*b.doc));
    if (!b.doc) {
        (void)err_set(err, ERR_NO_MEMORY, "no memory for the document");
        return NULL;
    }
    buf_init(&masked, limits->max_bytes * 3 + 1);
    e = mask(&b, text, &masked);
    if (!e)
        e = parse(&b, buf_span(&masked));
    if (e) {
        yaml_doc_free(b.doc);
        return NULL;
    }
    return b.doc;
}
