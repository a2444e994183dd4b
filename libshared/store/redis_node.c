/* SPDX-License-Identifier: Apache-2.0 */
/* Finds the right server and stays with it. One thread owns a node.
 *
 *            ready()                            reply
 *   (none) ───────────► connected ──────────────────────────────► connected
 *     ▲  seeds in turn,     │ MOVED                   go to the address it names, ask again
 *     │  sentinels asked    │ ASK TRYAGAIN CLUSTERDOWN  wait a little, ask again
 *     │                     │ READONLY LOADING MASTERDOWN  leave it, next seed, ask again
 *     └─────────────────────┘ time is up, end of stream, nonsense: fail()
 *
 * After a failure the next attempt waits 100 ms, doubling up to 5 s, half of it by chance; calls meanwhile fail at once.
 * Only a connection that had worked may be replaced without a wait.
 *
 * A server's error text goes into our errors, cleaned; that of AUTH only as its first word, since a server that does not
 * know the command repeats the arguments. */
#include "libshared/store/redis_node.h"

#include <poll.h>
#include <stdio.h>

#include "libshared/base/id.h"

#define BACKOFF_MIN_US INT64_C(100000)
#define BACKOFF_MAX_US INT64_C(5000000)
#define HOPS_MAX       8u    /* redirections and waits within one call */
#define PATIENCE_US    50000 /* between attempts while a slot moves or a cluster votes */
#define PATIENCE_MAX   4u

void redis_node_init(struct redis_node *n, const struct redis_url *url)
{
    *n = (struct redis_node){.url = url};
    redis_link_init(&n->link);
}

void redis_node_release(struct redis_node *n)
{
    redis_link_close(&n->link);
}

/* ---- what servers say ---- */

bool redis_says(const redisReply *r, const char *word)
{
    size_t len = strlen(word);

    return r->type == REDIS_REPLY_ERROR && r->len >= len && memcmp(r->str, word, len) == 0 &&
           (r->len == len || r->str[len] == ' ');
}

static void clean_text(char *dst, size_t cap, const redisReply *r, bool first_word_only)
{
    size_t n = 0;

    for (; n < r->len && n + 1 < cap && (!first_word_only || r->str[n] != ' '); n++)
        dst[n] = r->str[n] >= ' ' && r->str[n] <= '~' ? r->str[n] : '?';
    dst[n] = '\0';
}

enum err_code redis_refusal(const redisReply *r, struct err *err)
{
    char text[200];

    if (r->type != REDIS_REPLY_ERROR)
        return err_set(err, ERR_IO, "redis gave an unexpected kind of reply");
    clean_text(text, sizeof(text), r, false);
    return err_set(err, redis_says(r, "WRONGTYPE") ? ERR_CONFLICT : ERR_UNAVAILABLE, "redis refuses: %s",
                   text);
}

/* ---- connecting ---- */

static enum tally_outcome outcome_of(const redisReply *r);

static void tally_reply(enum redis_operation o, enum err_code e, const redisReply *r, struct mono began)
{
    tally_redis(o, e ? TALLY_ERROR : outcome_of(r), 1, mono_diff_us(mono_now(), began));
}

static enum err_code exchange(struct redis_link *l, const struct redis_command *c, struct mono deadline,
                              redisReply **out, struct err *err)
{
    struct buf wire AUTO(buf_release) = {0};
    struct mono began = mono_now();
    enum err_code e = redis_command_emit(c, &wire);

    if (e)
        return err_set(err, e, "a command is too large");
    e = redis_link_send(l, buf_span(&wire), deadline, err);
    explicit_bzero(wire.p, wire.len);
    e = e ? e : redis_link_receive(l, deadline, out, err);
    tally_reply(REDIS_CONNECT, e, e ? NULL : *out, began);
    return e;
}

static enum err_code log_in(struct redis_link *l, const struct redis_url *u, struct mono deadline,
                            struct err *err)
{
    struct redis_command c AUTO(redis_command_release);
    redisReply *r;
    char word[40];
    enum err_code e;

    redis_command_init(&c);
    if (!u->password.len)
        return ERR_OK;
    redis_argz(&c, "AUTH");
    if (u->user[0])
        redis_argz(&c, u->user);
    redis_arg(&c, secret_expose(&u->password));
    e = exchange(l, &c, deadline, &r, err);
    if (e)
        return e;
    if (r->type != REDIS_REPLY_STATUS) {
        clean_text(word, sizeof(word), r, true);
        e = err_set(err, ERR_UNAVAILABLE, "redis refuses the login: %s",
                    r->type == REDIS_REPLY_ERROR ? word : "?");
    }
    freeReplyObject(r);
    return e;
}

/* One command whose answer must be a status, or with `is_optional` anything but a demand to log in. */
static enum err_code say(struct redis_link *l, const char *a, const char *b, const char *c_, bool is_optional,
                         struct mono deadline, struct err *err)
{
    struct redis_command c AUTO(redis_command_release);
    redisReply *r;
    enum err_code e;

    redis_command_init(&c);
    redis_argz(&c, a);
    redis_argz(&c, b);
    if (c_)
        redis_argz(&c, c_);
    e = exchange(l, &c, deadline, &r, err);
    if (e)
        return e;
    if (r->type != REDIS_REPLY_STATUS && (!is_optional || redis_says(r, "NOAUTH")))
        e = redis_refusal(r, err);
    freeReplyObject(r);
    return e;
}

static enum err_code check_is_primary(struct redis_link *l, struct mono deadline, struct err *err)
{
    struct redis_command c AUTO(redis_command_release);
    redisReply *r;
    enum err_code e;

    redis_command_init(&c);
    redis_argz(&c, "ROLE");
    e = exchange(l, &c, deadline, &r, err);
    if (e)
        return e;
    if (r->type == REDIS_REPLY_ERROR)
        e = redis_refusal(r, err);
    else if (r->type != REDIS_REPLY_ARRAY || !r->elements || r->element[0]->type != REDIS_REPLY_STRING ||
             strcmp(r->element[0]->str, "master") != 0)
        e = err_set(err, ERR_UNAVAILABLE, "the server that the sentinel names is no primary");
    freeReplyObject(r);
    return e;
}

static enum err_code open_server(struct redis_node *n, const struct redis_endpoint *to, struct mono deadline,
                                 struct err *err)
{
    char db[16], text[320];
    enum err_code e = redis_link_open(&n->link, to, deadline, err);

    if (e)
        return e;
    (void)snprintf(db, sizeof(db), "%u", n->url->db);
    e = log_in(&n->link, n->url, deadline, err);
    if (!e && n->url->db)
        e = say(&n->link, "SELECT", db, NULL, false, deadline, err);
    if (!e)
        e = say(&n->link, "CLIENT", "SETNAME", "gatewayd", true, deadline, err);
    if (!e && n->url->sentinel[0])
        e = check_is_primary(&n->link, deadline, err);
    if (e) {
        redis_link_close(&n->link);
        redis_endpoint_text(to, text, sizeof(text));
        (void)err_prefix(err, "'%.200s'", text);
        if (e == ERR_IO && err) /* nothing of the caller's was sent yet */
            err->code = ERR_UNAVAILABLE;
        return e == ERR_IO ? ERR_UNAVAILABLE : e;
    }
    n->at = *to;
    n->connects++;
    return ERR_OK;
}

static enum err_code ask_name(struct redis_link *l, const char *name, struct mono deadline, redisReply **out,
                              struct err *err)
{
    struct redis_command c AUTO(redis_command_release);

    redis_command_init(&c);
    redis_argz(&c, "SENTINEL");
    redis_argz(&c, "get-master-addr-by-name");
    redis_argz(&c, name);
    return exchange(l, &c, deadline, out, err);
}

static enum err_code read_address(const redisReply *r, const char *name, struct redis_endpoint *out,
                                  struct err *err)
{
    uint64_t port;

    if (r->type == REDIS_REPLY_NIL || (r->type == REDIS_REPLY_ARRAY && !r->elements))
        return err_set(err, ERR_UNAVAILABLE, "the sentinel knows no primary '%s'", name);
    if (r->type == REDIS_REPLY_ERROR)
        return redis_refusal(r, err);
    if (r->type != REDIS_REPLY_ARRAY || r->elements != 2 || r->element[0]->type != REDIS_REPLY_STRING ||
        r->element[1]->type != REDIS_REPLY_STRING || r->element[0]->len >= sizeof(out->host) ||
        !span_to_u64(span_make(r->element[1]->str, r->element[1]->len), &port) || !port || port > 65535)
        return err_set(err, ERR_UNAVAILABLE, "the sentinel's answer is no address");
    *out = (struct redis_endpoint){.port = (unsigned)port};
    (void)span_copy(out->host, sizeof(out->host), span_make(r->element[0]->str, r->element[0]->len));
    return ERR_OK;
}

/* The password is the primary's; a sentinel gets it only when it demands one. */
static enum err_code ask_sentinel(struct redis_node *n, const struct redis_endpoint *sentinel,
                                  struct mono deadline, struct redis_endpoint *out, struct err *err)
{
    struct redis_link l;
    redisReply *r = NULL;
    enum err_code e;

    redis_link_init(&l);
    e = redis_link_open(&l, sentinel, deadline, err);
    if (!e)
        e = ask_name(&l, n->url->sentinel, deadline, &r, err);
    if (!e && redis_says(r, "NOAUTH") && n->url->password.len) {
        freeReplyObject(r);
        r = NULL;
        e = log_in(&l, n->url, deadline, err);
        if (!e)
            e = ask_name(&l, n->url->sentinel, deadline, &r, err);
    }
    if (!e)
        e = read_address(r, n->url->sentinel, out, err);
    if (r)
        freeReplyObject(r);
    redis_link_close(&l);
    return e;
}

static enum err_code open_seed(struct redis_node *n, const struct redis_endpoint *seed, struct mono deadline,
                               struct err *err)
{
    struct redis_endpoint primary;
    enum err_code e;

    if (!n->url->sentinel[0])
        return open_server(n, seed, deadline, err);
    e = ask_sentinel(n, seed, deadline, &primary, err);
    return e ? e : open_server(n, &primary, deadline, err);
}

static struct mono share_of(struct mono deadline, unsigned among)
{
    struct mono now = mono_now();

    return mono_add_us(now, mono_diff_us(deadline, now) / (among ? among : 1));
}

/* The server that a cluster named, else every seed once, beginning with the one after the last that was tried. */
static enum err_code open_any(struct redis_node *n, struct mono deadline, struct err *err)
{
    enum err_code e;

    if (n->has_moved) {
        e = open_server(n, &n->moved, share_of(deadline, 2), err);
        if (!e)
            return e;
        n->has_moved = false;
    }
    e = err_set(err, ERR_UNAVAILABLE, "no server");
    for (unsigned left = n->url->n_seeds; left && e; left--) {
        const struct redis_endpoint *seed = &n->url->seeds[n->seed % n->url->n_seeds];

        e = open_seed(n, seed, share_of(deadline, left), err);
        if (e)
            n->seed++;
    }
    return e;
}

/* ---- failing ---- */

static int64_t backoff_us(unsigned failures)
{
    int64_t most = failures < 8 ? BACKOFF_MIN_US << (failures - 1) : BACKOFF_MAX_US;
    uint32_t chance;

    most = most > BACKOFF_MAX_US ? BACKOFF_MAX_US : most;
    random_bytes(&chance, sizeof(chance));
    return most / 2 + (int64_t)chance % (most / 2);
}

static enum err_code fail(struct redis_node *n, bool had_worked, enum err_code e, const struct err *why)
{
    redis_link_close(&n->link);
    n->failures++;
    n->retry_at = mono_add_us(mono_now(), had_worked ? 0 : backoff_us(n->failures));
    (void)snprintf(n->last, sizeof(n->last), "%s", why->text);
    return e;
}

static enum err_code ready(struct redis_node *n, struct mono deadline, struct err *err)
{
    int64_t wait_us = mono_diff_us(n->retry_at, mono_now());
    enum err_code e;

    if (n->link.fd >= 0 && redis_link_is_fresh(&n->link))
        return ERR_OK;
    redis_link_close(&n->link);
    if (n->failures && wait_us > 0)
        return err_set(err, ERR_UNAVAILABLE, "redis is not asked again for %d ms: %s", (int)(wait_us / 1000),
                       n->last);
    e = open_any(n, deadline, err);
    if (!e)
        return ERR_OK;
    tally_redis_unreachable();
    (void)err_prefix(err, "redis");
    return fail(n, false, e, err);
}

/* ---- calling ---- */

enum verdict { FINE, MOVED, LATER, ELSEWHERE };

static enum verdict judge(const redisReply *r)
{
    if (redis_says(r, "MOVED"))
        return MOVED;
    if (redis_says(r, "ASK") || redis_says(r, "TRYAGAIN") || redis_says(r, "CLUSTERDOWN"))
        return LATER;
    if (redis_says(r, "READONLY") || redis_says(r, "LOADING") || redis_says(r, "MASTERDOWN"))
        return ELSEWHERE;
    return FINE;
}

static enum tally_outcome outcome_of(const redisReply *r)
{
    if (r->type != REDIS_REPLY_ERROR)
        return TALLY_SUCCESS;
    return judge(r) != FINE || redis_says(r, "NOSCRIPT") ? TALLY_AGAIN : TALLY_ERROR;
}

/* "MOVED slot host:port"; no host, or "?", is the host of the server that says so. */
static bool follow(struct redis_node *n, const redisReply *r)
{
    struct span text = span_make(r->str, r->len), host;
    const char *colon;
    uint64_t port;

    (void)span_split(&text, ' ');
    (void)span_split(&text, ' ');
    colon = text.len ? memrchr(text.p, ':', text.len) : NULL;
    if (!colon || !span_to_u64(span_make(colon + 1, (size_t)(text.p + text.len - colon) - 1), &port) ||
        !port || port > 65535)
        return false;
    host = span_make(text.p, (size_t)(colon - text.p));
    if (!host.len || span_is(host, "?"))
        host = span_of(n->at.host);
    if (!host.len || host.len >= sizeof(n->moved.host))
        return false;
    n->moved.port = (unsigned)port;
    n->moved.path[0] = '\0';
    (void)memmove(n->moved.host, host.p, host.len);
    n->moved.host[host.len] = '\0';
    n->has_moved = true;
    redis_link_close(&n->link);
    return true;
}

static void rest(int64_t us, struct mono deadline)
{
    int64_t left = mono_diff_us(deadline, mono_now());

    (void)poll(NULL, 0, (int)((us < left ? us : left > 0 ? left : 0) / 1000));
}

/* Does what the verdict asks for; false: it was in vain, and `err` is set. */
static bool go_on(struct redis_node *n, enum verdict v, const redisReply *r, unsigned hop,
                  struct mono deadline, struct err *err)
{
    (void)redis_refusal(r, err);
    if (hop == HOPS_MAX || mono_diff_us(deadline, mono_now()) <= 0)
        return false;
    if (v == MOVED)
        return follow(n, r);
    if (v == LATER) {
        if (hop >= PATIENCE_MAX)
            return false;
        rest(PATIENCE_US * (int64_t)(hop + 1), deadline);
        return true;
    }
    redis_link_close(&n->link);
    n->has_moved = false;
    n->seed++;
    return hop < n->url->n_seeds;
}

enum err_code redis_node_call(struct redis_node *n, struct span wire, struct mono deadline, redisReply **out,
                              struct err *err)
{
    struct err own = {0};

    err = err ? err : &own;
    for (unsigned hop = 0;; hop++) {
        enum err_code e = ready(n, deadline, err);
        redisReply *r = NULL;
        struct mono began = mono_now();
        enum verdict v;
        bool goes_on;

        if (e) {
            tally_redis(n->operation, TALLY_ERROR, 1, -1);
            return e;
        }
        e = redis_link_send(&n->link, wire, deadline, err);
        if (!e)
            e = redis_link_receive(&n->link, deadline, &r, err);
        tally_reply(n->operation, e, r, began);
        if (e)
            return fail(n, n->failures == 0, e, err);
        v = judge(r);
        if (v == FINE) {
            n->failures = 0;
            *out = r;
            return ERR_OK;
        }
        goes_on = go_on(n, v, r, hop, deadline, err);
        freeReplyObject(r);
        if (!goes_on)
            return fail(n, false, ERR_UNAVAILABLE, err);
    }
}

enum err_code redis_node_pipeline(struct redis_node *n, struct span wire, size_t replies,
                                  struct mono deadline, redis_reply_fn fn, void *user, struct err *err)
{
    struct mono began = mono_now();
    struct err own = {0};
    size_t i = 0;
    enum err_code e;

    err = err ? err : &own;
    e = redis_link_send(&n->link, wire, deadline, err);
    for (; i < replies && !e; i++) {
        redisReply *r;

        e = redis_link_receive(&n->link, deadline, &r, err);
        if (e)
            break;
        tally_reply(n->operation, e, r, began);
        if (!fn(user, i, r))
            e = redis_refusal(r, err);
        freeReplyObject(r);
    }
    if (i < replies) /* sent, or as good as sent, and never answered */
        tally_redis(n->operation, TALLY_ERROR, replies - i, mono_diff_us(mono_now(), began));
    return e ? fail(n, true, e, err) : ERR_OK;
}
