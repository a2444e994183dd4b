/* SPDX-License-Identifier: Apache-2.0 */
/* A configuration in the making. The raw_ structs are the items of the lists with what only loading needs;
 * their inner struct becomes part of the snapshot. Everything lives in the snapshot's arena but the
 * documents, which are wiped and freed when loading ends. */
#ifndef CONFIG_CONFIG_PRIV_H
#define CONFIG_CONFIG_PRIV_H

#include "gatewayd/config/options.h"
#include "gatewayd/config/value.h"
#include "libshared/base/buf.h"
#include "libshared/yaml/yaml_doc.h"

struct source {
    const char *name; /* as shown in errors */
    struct yaml_doc *doc;
    const struct yaml_node *root; /* NULL: nothing in it */
};
#define SOURCES_MAX  2u
#define OVERLAY_NAME "built-in" /* of the text that the program itself brings */

struct item { /* where an item of a list stands; node NULL: it came from the environment */
    const struct source *src;
    const struct yaml_node *node;
};

struct raw_provider {
    struct config_provider p;
    struct item at;
    const char *url_variable; /* that gave its base URL, NULL otherwise */
    unsigned n_skipped_keys;  /* empty ones, and unset ones of a disabled provider */
};

struct raw_target {
    struct config_target t;
    struct item at;
    const char *provider;
};

struct raw_model {
    struct config_model m;
    struct item at;
    struct raw_target *targets;
};

struct raw_key {
    struct config_key k;
    struct item at;
    struct secret plain;
};

struct raw_tenant {
    struct config_tenant t;
    struct item at;
    struct raw_key *keys;
    size_t n_keys;
};

/* Where a value came from, for messages. */
struct origin {
    const char *file; /* with `place` */
    struct yaml_place place;
    const char *variable; /* of the environment */
    const char *flag;
    struct span shown; /* what may be repeated in a message; empty when nothing may */
    bool is_literal;   /* written in the file, not taken from a variable */
};

struct secret_link { /* every secret of the snapshot, so that all are wiped */
    struct secret_link *next;
    struct secret *secret;
};

struct build {
    struct config *c;
    struct arena *a;
    const struct config_options *o;
    struct err *err;
    struct source sources[SOURCES_MAX];
    size_t n_sources;
    struct raw_provider *providers;
    struct raw_model *models;
    struct raw_tenant *tenants;
    size_t n_providers, n_models, n_tenants;
    struct origin *
        set_by; /* per option row: last setter that was not the default; file, variable and flag NULL: none */
    const char *subject;   /* "provider 'x'", for messages about what is inside it; NULL outside */
    bool may_lack;         /* unset variables are skipped: the item is disabled */
    unsigned n_skipped;    /* list items that were skipped */
    bool has_plain_secret; /* written into the file itself */
    struct buf warnings;
};

/* config_value.c: one value into its place. */
NODISCARD enum err_code set_text(struct build *b, const struct option_row *row, void *base, struct span text,
                                 const struct origin *at);
NODISCARD enum err_code set_node(struct build *b, const struct option_row *row, void *base,
                                 const struct source *src, const struct yaml_node *node);
NODISCARD enum err_code set_defaults(struct build *b, const char *prefix, void *base);
NODISCARD enum err_code fail_origin(struct build *b, const struct origin *at, const char *fmt, ...)
    PRINTF_LIKE(3, 4);
struct origin origin_of(const struct source *src, const struct yaml_node *node);
/* Of the value under `key` of the item, else of the item. */
struct origin origin_in(const struct item *it, const char *key);
void warn_origin(struct build *b, const struct origin *at, const char *fmt, ...) PRINTF_LIKE(3, 4);

/* config_expand.c */
/* `out` gets the text with its variables put in. ERR_OK with *is_missing set when one is unset and that is
 * allowed. */
NODISCARD enum err_code expand(struct build *b, struct span text, const struct origin *at, struct buf *out,
                               bool *is_missing);
/* The secret that `text` is, or that the file which it names holds. */
NODISCARD enum err_code read_secret(struct build *b, struct span text, const struct origin *at,
                                    struct buf *out);
NODISCARD enum err_code read_secret_file(struct build *b, const char *path, const struct origin *at,
                                         struct buf *out);
void wipe_buf(struct buf *b);

/* config_lists.c */
NODISCARD enum err_code read_map(struct build *b, const struct source *src, const struct yaml_node *map,
                                 const char *prefix, void *base);
NODISCARD enum err_code read_lists(struct build *b);

/* config_check.c */
NODISCARD enum err_code check_all(struct build *b);

/* config_state.c */
NODISCARD enum err_code resolve_paths(struct build *b);
NODISCARD enum err_code add_default_tenant(struct build *b);

/* config_warn.c: into b->warnings */
void warn_all(struct build *b);

/* config_find.c */
void index_all(struct config *c);
void index_keys(struct config *c);

#endif
