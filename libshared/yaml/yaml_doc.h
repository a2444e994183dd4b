/* SPDX-License-Identifier: Apache-2.0 */
/* A YAML text as a small read-only tree in which every node knows its line and column. JSON is read as YAML.
 *
 * Stricter than YAML where laxness hides mistakes: one document, text keys only, no key twice in one mapping,
 * no tags. Aliases share the node of their anchor; the tree's size is counted as if they were written out, so
 * a text that multiplies itself is refused. A placeholder `${NAME}` or `${NAME:-default}` is one piece of
 * text wherever it stands, also inside `{…}` and `[…]`, where YAML would take its brace for structure; it is
 * not expanded here.
 *
 * The text may hold secrets: all memory is wiped when it is given back. */
#ifndef YAML_YAML_DOC_H
#define YAML_YAML_DOC_H

#include "libshared/base/err.h"
#include "libshared/base/span.h"

struct yaml_limits {
    size_t max_bytes;
    unsigned max_depth; /* nesting; at most YAML_DEPTH_CAP */
    size_t max_nodes;   /* with aliases written out */
};
#define YAML_DEPTH_CAP 64u

struct yaml_place { /* from 1; 0 when not known */
    unsigned line, column;
};

enum yaml_type { NODE_NULL, NODE_TEXT, NODE_LIST, NODE_MAP };

struct yaml_node {
    enum yaml_type type;
    struct yaml_place place;
    bool is_quoted;
    struct span text;              /* NUL-terminated; the scalar as written, placeholders unexpanded */
    const struct yaml_item *items; /* of a list or mapping, in order */
    size_t n_items;
    size_t size_;     /* private */
    unsigned height_; /* private */
    bool is_open_;    /* private */
};

struct yaml_item {
    const struct yaml_item *next;
    const struct yaml_node *key; /* NULL in a list */
    const struct yaml_node *value;
};

struct yaml_doc;

/* NULL on failure, with the reason in `err` and its position in `where`. */
struct yaml_doc *yaml_doc_new(struct span text, const struct yaml_limits *limits, struct yaml_place *where,
                              struct err *err);
void yaml_doc_free(struct yaml_doc *d);
/* NULL when the text holds no document. */
const struct yaml_node *yaml_doc_root(const struct yaml_doc *d);
/* The value under `key`; NULL when there is none or when `map` is NULL or no mapping. */
const struct yaml_node *yaml_get(const struct yaml_node *map, const char *key);

#endif
