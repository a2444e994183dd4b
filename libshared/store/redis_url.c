/* SPDX-License-Identifier: Apache-2.0 */
/* redis://[user:password@]host[:port][,host[:port]…][/db][?sentinel=NAME] and unix://[user:password@]/path[?db=n].
 * User, password and NAME are percent-decoded. Errors do not repeat the URL, since a mistyped one may hold the password
 * where a host should be. */
#include "libshared/store/redis_url.h"

#include <stdio.h>
#include <string.h>

static int hex_digit(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

/* False when it does not fit, has a broken escape or a NUL. */
static bool decode(char *dst, size_t cap, struct span s)
{
    size_t n = 0;

    for (size_t i = 0; i < s.len; i++) {
        char c = s.p[i];

        if (c == '%') {
            bool is_whole = i + 2 < s.len;

            if (!is_whole || hex_digit(s.p[i + 1]) < 0 || hex_digit(s.p[i + 2]) < 0)
                return false;
            c = (char)(hex_digit(s.p[i + 1]) * 16 + hex_digit(s.p[i + 2]));
            i += 2;
        }
        if (!c || n + 1 >= cap)
            return false;
        dst[n++] = c;
    }
    dst[n] = '\0';
    return true;
}

static enum err_code parse_login(struct redis_url *u, struct span login, struct err *err)
{
    struct span user = span_split(&login, ':');
    char password[1024];
    enum err_code e;

    if (!login.p)
        return err_set(err, ERR_CONFIG, "a redis URL needs 'user:password@' or ':password@'");
    if (!decode(u->user, sizeof(u->user), user) || !decode(password, sizeof(password), login) || !password[0])
        return err_set(err, ERR_CONFIG,
                       "the user or password of the redis URL is empty, too long or badly encoded");
    e = secret_set(&u->password, span_of(password));
    explicit_bzero(password, sizeof(password));
    return e;
}

static bool parse_port(struct span s, unsigned *out)
{
    uint64_t v;

    if (!span_to_u64(s, &v) || !v || v > 65535)
        return false;
    *out = (unsigned)v;
    return true;
}

static bool parse_host(struct redis_endpoint *e, struct span s)
{
    struct span host = s, port = {0};

    if (s.len && s.p[0] == '[') {
        const char *end = memchr(s.p, ']', s.len);

        if (!end)
            return false;
        host = span_make(s.p + 1, (size_t)(end - s.p) - 1);
        port = span_make(end + 1, s.len - host.len - 2);
        if (port.len && port.p[0] != ':')
            return false;
        port = port.len ? span_make(port.p + 1, port.len - 1) : (struct span){0};
    } else {
        host = span_split(&s, ':');
        port = s;
    }
    if (!host.len || host.len >= sizeof(e->host) || (port.p && !parse_port(port, &e->port)))
        return false;
    for (size_t i = 0; i < host.len; i++)
        if (host.p[i] <= ' ' || host.p[i] > '~' || host.p[i] == '/' || host.p[i] == '%')
            return false;
    (void)span_copy(e->host, sizeof(e->host), host);
    return true;
}

static enum err_code parse_hosts(struct redis_url *u, struct span hosts, struct err *err)
{
    while (hosts.p) {
        struct redis_endpoint *e = &u->seeds[u->n_seeds];

        if (u->n_seeds == REDIS_SEEDS_MAX)
            return err_set(err, ERR_CONFIG, "a redis URL has at most %u hosts", REDIS_SEEDS_MAX);
        e->port = u->sentinel[0] ? 26379 : 6379;
        u->n_seeds++;
        if (!parse_host(e, span_split(&hosts, ',')))
            return err_set(err, ERR_CONFIG, "host %u of the redis URL is not 'host[:port]'", u->n_seeds);
    }
    return ERR_OK;
}

static enum err_code parse_db(struct redis_url *u, struct span s, struct err *err)
{
    uint64_t v;

    if (!span_to_u64(s, &v) || v > 65535)
        return err_set(err, ERR_CONFIG, "the database of a redis URL is a number");
    u->db = (unsigned)v;
    return ERR_OK;
}

static enum err_code parse_query(struct redis_url *u, struct span query, bool is_unix, struct err *err)
{
    while (query.len) {
        struct span value = span_split(&query, '&'), name = span_split(&value, '=');

        if (span_is(name, "db")) {
            enum err_code e = parse_db(u, value, err);

            if (e)
                return e;
        } else if (span_is(name, "sentinel") && !is_unix) {
            if (!decode(u->sentinel, sizeof(u->sentinel), value) || !u->sentinel[0])
                return err_set(err, ERR_CONFIG, "'sentinel' in the redis URL needs the primary's name");
        } else {
            return err_set(err, ERR_CONFIG,
                           "the redis URL has an unknown parameter; there are 'db' and 'sentinel'");
        }
    }
    return ERR_OK;
}

static void describe(struct redis_url *u, bool is_unix)
{
    char one[320];
    size_t n = (size_t)snprintf(u->where, sizeof(u->where), "%s", is_unix ? "unix://" : "redis://");

    for (unsigned i = 0; i < u->n_seeds && n < sizeof(u->where); i++) {
        redis_endpoint_text(&u->seeds[i], one, sizeof(one));
        n += (size_t)snprintf(u->where + n, sizeof(u->where) - n, "%s%s", i ? "," : "", one);
    }
    if (u->db && n < sizeof(u->where))
        n += (size_t)snprintf(u->where + n, sizeof(u->where) - n, is_unix ? "?db=%u" : "/%u", u->db);
    if (u->sentinel[0] && n < sizeof(u->where))
        (void)snprintf(u->where + n, sizeof(u->where) - n, "?sentinel=%s", u->sentinel);
}

static enum err_code parse_rest(struct redis_url *u, struct span rest, bool is_unix, struct err *err)
{
    const char *at = memrchr(rest.p, '@', rest.len);
    struct span query, place;
    enum err_code e = ERR_OK;

    if (at) {
        e = parse_login(u, span_make(rest.p, (size_t)(at - rest.p)), err);
        rest = span_make(at + 1, (size_t)(rest.p + rest.len - at - 1));
    }
    query = rest;
    place = span_split(&query, '?');
    if (!e)
        e = parse_query(u, query, is_unix, err);
    if (e)
        return e;
    if (is_unix) {
        u->n_seeds = 1;
        if (place.len < 2 || place.p[0] != '/' || place.len >= sizeof(u->seeds[0].path))
            return err_set(err, ERR_CONFIG, "a unix redis URL needs an absolute path of at most 107 bytes");
        (void)span_copy(u->seeds[0].path, sizeof(u->seeds[0].path), place);
        return ERR_OK;
    }
    query = place; /* host part, then an optional "/db" */
    place = span_split(&query, '/');
    if (query.len)
        e = parse_db(u, query, err);
    return e ? e : parse_hosts(u, place, err);
}

enum err_code redis_url_parse(struct redis_url *u, const char *url, struct err *err)
{
    struct span s = span_of(url);
    bool is_unix = span_starts(s, SPAN_LIT("unix://"));
    enum err_code e;

    *u = (struct redis_url){0};
    if (span_starts(s, SPAN_LIT("rediss://")))
        return err_set(
            err, ERR_CONFIG,
            "'rediss://' needs TLS, which this build's hiredis does not have: put stunnel (or another "
            "TLS tunnel) on this host and use 'redis://127.0.0.1:PORT' or 'unix:///path' to it");
    if (!is_unix && !span_starts(s, SPAN_LIT("redis://")))
        return err_set(err, ERR_CONFIG, "a redis URL begins with 'redis://' or 'unix://'");
    s = span_make(s.p + (is_unix ? 7 : 8), s.len - (is_unix ? 7 : 8));
    e = parse_rest(u, s, is_unix, err);
    if (e)
        redis_url_release(u);
    else
        describe(u, is_unix);
    return e;
}

void redis_url_release(struct redis_url *u)
{
    secret_release(&u->password);
}

void redis_endpoint_text(const struct redis_endpoint *e, char *dst, size_t cap)
{
    if (e->path[0])
        (void)snprintf(dst, cap, "%s", e->path);
    else
        (void)snprintf(dst, cap, strchr(e->host, ':') ? "[%s]:%u" : "%s:%u", e->host, e->port);
}
