/* SPDX-License-Identifier: Apache-2.0 */
/* Options win over a context that is named, that over variables, those over the current context, as in aigwctl. A Redis and a
 * gateway that are read one for the other come from the same of them. Addresses and tokens are secrets in part: no message repeats
 * one. */
#include "aigwtop/where.h"

#include <stdio.h>

#include "libshared/base/secret.h"
#include "libshared/cli/context.h"

#define URL_CAP     4200
#define DEADLINE_US INT64_C(2000000)

/* "file:/path" holds the address. */
static enum err_code address_of(const char *url, char out[URL_CAP], struct err *err)
{
    FILE *f;
    size_t n;

    if (strncmp(url, "file:/", 6) != 0)
        return snprintf(out, URL_CAP, "%s", url) < URL_CAP
                   ? ERR_OK
                   : err_set(err, ERR_CONFIG, "the address is too long");
    f = fopen(url + 5, "re");
    if (!f)
        return err_set(err, ERR_CONFIG, "the address cannot be read from\n  '%s'", url + 5);
    n = fread(out, 1, URL_CAP - 1, f);
    (void)fclose(f);
    while (n && (out[n - 1] == '\n' || out[n - 1] == '\r'))
        n--;
    out[n] = '\0';
    return n ? ERR_OK : err_set(err, ERR_CONFIG, "'%s' holds no address", url + 5);
}

struct plan {
    const struct where *w;
    struct context of; /* in force; no name: none is */
    const char *redis; /* NULL: none is named */
    bool is_named, is_redis_of_context;
};

static enum err_code make_plan(struct plan *p, const struct where *w, struct err *err)
{
    enum err_code e = context_find(w->url, w->context, &p->of, &p->is_named, err);
    bool is_of_context = !w->redis && context_gives_stores(&p->of, p->is_named);

    p->w = w;
    p->redis = w->redis        ? w->redis
               : is_of_context ? p->of.redis
                               : context_variable("GATEWAYD_REDIS_URL", "REDIS_URL");
    if (!p->redis || !*p->redis || (context_redis_is_off() && !w->redis && !(is_of_context && p->is_named)))
        p->redis = NULL;
    p->is_redis_of_context = is_of_context && p->redis;
    return e;
}

/* A gateway that was asked for by option or by the name of its context is not read from the Redis of a variable. */
static bool is_redis_first(const struct plan *p)
{
    bool is_gateway_asked = p->w->url || (p->is_named && !p->is_redis_of_context);

    return p->w->choice == CHOICE_REDIS ||
           (p->w->choice == CHOICE_AUTO && p->redis && (p->w->redis || !is_gateway_asked));
}

void where_context(const struct where *w, char *dst, size_t cap)
{
    struct plan p = {0};
    bool is_of_it = !w->replay && !make_plan(&p, w, NULL) &&
                    (p.is_named || (is_redis_first(&p) ? p.is_redis_of_context : p.of.url[0] != '\0'));

    (void)snprintf(dst, cap, "%s", is_of_it ? p.of.name : "");
}

/* ---- complaints: which key of which context in which file --------------------------------------------------------------- */

static enum err_code blame(const struct plan *p, const char *key, enum err_code e, struct err *err)
{
    char place[CONTEXT_TEXT_CAP + 200], said[sizeof(err->text)];

    (void)snprintf(said, sizeof(said), "%s", err_text(err));
    context_place(&p->of, key, place, sizeof(place));
    return err_set(err, e, "%s\n  It is the key %s", said, place);
}

static enum err_code lacks(const struct plan *p, const char *key, const char *what, struct err *err)
{
    char place[CONTEXT_TEXT_CAP + 200], add[CONTEXT_NAME_CAP + 60] = "";

    if (!p->of.is_running)
        (void)snprintf(add, sizeof(add), "\n  Add it:   aigwctl config set %s --%s URL", p->of.name, key);
    context_place(&p->of, key, place, sizeof(place));
    return err_set(err, ERR_CONFIG, "context '%s' names no %s%s\n  Or give:  --%s URL\n  The key is %s",
                   p->of.name, what, add, key, place);
}

/* ---- opening ------------------------------------------------------------------------------------------------------------ */

static enum err_code open_redis(const struct plan *p, const _Atomic int *stop, struct source *out,
                                struct err *err)
{
    char url[URL_CAP];
    enum err_code e;

    if (!p->redis && p->of.name[0])
        return lacks(p, "redis", "realtime store", err);
    if (!p->redis)
        return err_set(err, ERR_CONFIG, "no Redis is named: give --redis URL or GATEWAYD_REDIS_URL");
    e = address_of(p->redis, url, err);
    if (!e) {
        *out = source_redis(
            &(struct source_options){.redis_url = url, .stop = stop, .deadline_us = DEADLINE_US}, err);
        e = out->ops ? ERR_OK : ERR_CONFIG;
    }
    explicit_bzero(url, sizeof(url));
    return e && p->is_redis_of_context ? blame(p, "redis", e, err) : e;
}

static enum err_code url_of(const struct plan *p, char out[URL_CAP], struct err *err)
{
    const char *url = p->w->url;

    if (!url && p->of.url[0])
        url = p->of.url;
    if (!url && p->is_named)
        return lacks(p, "url", "gateway", err);
    url = url ? url : context_variable("GATEWAYD_URL", NULL);
    if (url)
        return address_of(url, out, err);
    context_guess_url(out, URL_CAP);
    return ERR_OK;
}

static const char *token_hint(const struct plan *p)
{
    bool is_of_context = p->of.token_file[0] && !p->w->token_file &&
                         !context_variable("GATEWAYD_TOKEN", "GATEWAYD_TOKEN_FILE");

    return is_of_context ? "the token is refused: see --token-file, or 'token-file' of the context"
                         : "the token is refused: see --token-file, GATEWAYD_TOKEN";
}

static enum err_code open_api(const struct plan *p, const _Atomic int *stop, struct source *out,
                              struct err *err)
{
    struct secret secret = {0};
    char url[URL_CAP];
    enum err_code e = url_of(p, url, err);

    if (!e)
        e = context_token(&p->of, p->w->token_file, &secret, err);
    if (!e) {
        *out = source_api(&(struct source_options){.url = url,
                                                   .token = secret_expose(&secret),
                                                   .token_hint = token_hint(p),
                                                   .stop = stop,
                                                   .deadline_us = DEADLINE_US},
                          err);
        e = out->ops ? ERR_OK : ERR_CONFIG;
        if (e && !p->w->url && p->of.url[0])
            e = blame(p, "url", e, err);
    }
    secret_release(&secret);
    return e;
}

static bool names_gateway(const struct plan *p)
{
    if (p->w->url)
        return true;
    if (p->of.name[0])
        return p->of.url[0] && (p->is_named || p->is_redis_of_context);
    return context_variable("GATEWAYD_URL", NULL);
}

/* A Redis that was named is asked first, and a gateway that was named too when that one has never answered. */
static enum err_code open_auto(const struct plan *p, const _Atomic int *stop, struct source *first,
                               struct source *second, struct err *err)
{
    struct err ignored = {0};
    enum err_code e;

    if (!is_redis_first(p))
        return open_api(p, stop, first, err);
    e = open_redis(p, stop, first, err);
    if (!e && names_gateway(p) && open_api(p, stop, second, &ignored))
        *second = (struct source){0};
    return e;
}

enum err_code where_open(const struct where *w, const _Atomic int *stop, struct source *first,
                         struct source *second, struct err *err)
{
    struct plan p = {0};
    enum err_code e;

    *first = *second = (struct source){0};
    if (w->replay) {
        *first = source_replay(w->replay, err);
        return first->ops ? ERR_OK : ERR_CONFIG;
    }
    e = make_plan(&p, w, err);
    if (e)
        return e;
    switch (w->choice) {
    case CHOICE_REDIS:
        return open_redis(&p, stop, first, err);
    case CHOICE_API:
        return open_api(&p, stop, first, err);
    default:
        return open_auto(&p, stop, first, second, err);
    }
}
