/* SPDX-License-Identifier: Apache-2.0 */
/* The scene of leases (leases.c), its truth (leases_truth.c) and its writers (leases_writer.c). */
#ifndef DST_GUARDS_LEASES_H
#define DST_GUARDS_LEASES_H

#include "gatewayd/limits/limits.h"
#include "libshared/catalog/period.h"
#include "libshared/store/kv_keys.h"
#include "tests/dst/guards/guards.h"

#define NODES   4u
#define OPEN    12u
#define ENDS    600u
#define WINDOWS 12u
#define ACCOUNT "tenant:acme"

struct end {          /* of a request: an entry of the journal */
    int64_t start_us; /* of its window */
    int64_t cost;
};

struct open {
    bool is_open;
    int64_t start_us, amount;
    struct limits_hold hold;
};

struct node {
    bool is_alive;
    unsigned number;
    char instance[16];
    /* what a process has */
    int64_t skew_us, paused_until, due_us, write_us, began_us;
    struct limits *limits;
    struct config config;
    struct config_tenant tenant;
    struct config_key key;
    struct limits_lease *keeper;
    struct open open[OPEN];
    bool had_room;
    /* its writer */
    struct watermark at;
    uint64_t token;
    int64_t looked_us;
    bool is_synced; /* `at` is what the store said last */
    bool has_batch; /* under way: it is sent again until it is answered */
    size_t batch_end;
    struct fill { /* of a store that has not begun, under way: what the history store said when it was read */
        bool is_read, is_any;
        int64_t read_us;
        unsigned next;
        size_t at[NODES]; /* 0: it has no row */
    } fill;
    /* what outlives it */
    struct end ends[ENDS];
    size_t n_ends, born, on_record; /* born: of earlier lives; on_record: in the history store */
    /* the truth about it */
    int64_t lost_at; /* true time from which the store may give its lease to others */
    bool is_lost;
};

struct leases {
    unsigned n_nodes;
    int64_t limit, ttl_us, grace_us, bound;
    unsigned crash, pause, cuts, empties, clock_steps, weight_ask;
    bool is_cut[NODES]; /* from the store */
    struct kv *kv;
    struct node node[NODES];
    struct {
        int64_t start_us, excess; /* what lost nodes may spend beyond the limit */
    } window[WINDOWS];
    unsigned n_windows;
    uint64_t asked, settled, released, expired;
};
extern struct leases leases;

unsigned leases_window(int64_t start_us); /* its place among the scene's windows */
void leases_key(int64_t start_us, char dst[KV_KEY_CAP]);
/* ---- the truth ---- */

/* What a node's ends from one to another cost in a window. */
int64_t leases_ended(const struct node *n, int64_t start_us, size_t from, size_t to);
int64_t leases_used(int64_t start_us); /* spent and held by all */
/* How far the store has come with a node's ends; false: it has nothing of it. */
bool leases_has_posted(const struct node *n, size_t *out);
void leases_watch(void); /* for nodes whose lease the store may give away */
void leases_must_keep(int64_t start_us, const char *when);
void leases_must_balance(void);

/* ---- the writer of a node ---- */

void leases_write(struct node *n);
/* What the store has of a node's ends, or will have when it is filled. */
size_t leases_will_have(const struct node *n);

#endif
