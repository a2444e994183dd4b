/* SPDX-License-Identifier: Apache-2.0 */
/* Options win over variables, a context over the gateway's variable. Addresses and tokens are secrets in part: no message repeats
 * one. */
#include "aigwtop/where.h"

#include <stdio.h>

#include "libshared/base/secret.h"
#include "libshared/cli/context.h"

#define URL_CAP     4200
#define DEADLINE_US INT64_C(2000000)

static const char *variable(const char *name)
{
    const char *z = getenv(name);

    return z && *z ? z : NULL;
}

static bool is_off(const char *z)
{
    return z &&
           (strcmp(z, "false") == 0 || strcmp(z, "0") == 0 || strcmp(z, "no") == 0 || strcmp(z, "off") == 0);
}

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
        return err_set(err, ERR_CONFIG, "the address cannot be read from '%s'", url + 5);
    n = fread(out, 1, URL_CAP - 1, f);
    (void)fclose(f);
    while (n && (out[n - 1] == '\n' || out[n - 1] == '\r'))
        n--;
    out[n] = '\0';
    return n ? ERR_OK : err_set(err, ERR_CONFIG, "'%s' holds no address", url + 5);
}

static const char *redis_named(const struct where *w)
{
    if (w->redis)
        return w->redis;
    if (is_off(variable("GATEWAYD_REDIS_ENABLED")) || is_off(variable("REDIS_ENABLED")))
        return NULL;
    return variable("GATEWAYD_REDIS_URL") ? variable("GATEWAYD_REDIS_URL") : variable("REDIS_URL");
}

const char *where_context(const struct where *w)
{
    const char *z = w->context ? w->context : variable("GATEWAYD_CONTEXT");

    return z && !w->url ? z : "";
}

static enum err_code open_redis(const struct where *w, const _Atomic int *stop, struct source *out,
                                struct err *err)
{
    char url[URL_CAP];
    const char *named = redis_named(w);
    enum err_code e;

    if (!named)
        return err_set(err, ERR_CONFIG, "no Redis is named: give --redis URL or GATEWAYD_REDIS_URL");
    e = address_of(named, url, err);
    if (!e) {
        *out = source_redis(
            &(struct source_options){.redis_url = url, .stop = stop, .deadline_us = DEADLINE_US}, err);
        e = out->ops ? ERR_OK : ERR_CONFIG;
    }
    explicit_bzero(url, sizeof(url));
    return e;
}

static enum err_code url_of(const struct where *w, char out[URL_CAP], struct err *err)
{
    const char *context = where_context(w), *url = w->url;
    int pid;

    if (!url && *context) {
        if (!context_read(context, out, URL_CAP, &pid))
            return err_set(err, ERR_NOT_FOUND, "no context is named '%s'; is its gateway running?", context);
        return ERR_OK;
    }
    url = url ? url : variable("GATEWAYD_URL");
    if (url)
        return address_of(url, out, err);
    context_guess_url(out, URL_CAP);
    return ERR_OK;
}

static enum err_code open_api(const struct where *w, const _Atomic int *stop, struct source *out,
                              struct err *err)
{
    const char *token = variable("GATEWAYD_TOKEN"), *file = w->token_file ? w->token_file
                                                            : token       ? NULL
                                                                          : variable("GATEWAYD_TOKEN_FILE");
    struct secret secret = {0};
    char url[URL_CAP];
    enum err_code e = url_of(w, url, err);

    if (!e && file)
        e = context_token_file(file, &secret, err);
    else if (!e && token)
        e = secret_set(&secret, span_of(token));
    if (!e) {
        *out = source_api(
            &(struct source_options){.url = url,
                                     .token = secret_expose(&secret),
                                     .token_hint = "the token is refused: see --token-file, GATEWAYD_TOKEN",
                                     .stop = stop,
                                     .deadline_us = DEADLINE_US},
            err);
        e = out->ops ? ERR_OK : ERR_CONFIG;
    }
    secret_release(&secret);
    return e;
}

static bool names_gateway(const struct where *w)
{
    return w->url || *where_context(w) || variable("GATEWAYD_URL");
}

/* A Redis that was named is asked first, and a gateway that was named too when that one has never answered. */
static enum err_code open_auto(const struct where *w, const _Atomic int *stop, struct source *first,
                               struct source *second, struct err *err)
{
    bool is_option_api = (w->url || w->context) && !w->redis;

    if (!redis_named(w) || is_option_api)
        return open_api(w, stop, first, err);
    if (names_gateway(w) && open_api(w, stop, second, err))
        *second = (struct source){0};
    return open_redis(w, stop, first, err);
}

enum err_code where_open(const struct where *w, const _Atomic int *stop, struct source *first,
                         struct source *second, struct err *err)
{
    *first = *second = (struct source){0};
    if (w->replay) {
        *first = source_replay(w->replay, err);
        return first->ops ? ERR_OK : ERR_CONFIG;
    }
    switch (w->choice) {
    case CHOICE_REDIS:
        return open_redis(w, stop, first, err);
    case CHOICE_API:
        return open_api(w, stop, first, err);
    default:
        return open_auto(w, stop, first, second, err);
    }
}
