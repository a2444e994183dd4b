/* SPDX-License-Identifier: Apache-2.0 */
/* What is in force and where it comes from, for operators. Any thread; the snapshot is only read. Secrets and addresses that may
 * hold a password are said to be set, and no more. */
#include "gatewayd/config/config_describe.h"

#include <arpa/inet.h>
#include <inttypes.h>
#include <netinet/in.h>

#include "gatewayd/config/config_priv.h"
#include "gatewayd/config/options.h"
#include "gatewayd/config/value.h"

static int64_t number_at(const unsigned char *field, size_t width)
{
    switch (width) {
    case 1:
        return *field;
    case 2: {
        uint16_t v;

        memcpy(&v, field, sizeof(v));
        return v;
    }
    case 4: {
        uint32_t v;

        memcpy(&v, field, sizeof(v));
        return v;
    }
    default: {
        int64_t v;

        memcpy(&v, field, sizeof(v));
        return v;
    }
    }
}

static void put_duration(struct buf *out, int64_t us)
{
    static const struct {
        int64_t us;
        const char *unit;
    } UNITS[] = {
        {(int64_t)3600 * 1000000, "h"}, {60 * 1000000, "m"}, {1000000, "s"}, {1000, "ms"}, {1, "us"}};
    size_t i = 0;

    while (us && us % UNITS[i].us)
        i++;
    buf_addf(out, "%" PRId64 "%s", us / UNITS[us ? i : 2].us, UNITS[us ? i : 2].unit);
}

static void put_choice(struct buf *out, const char *choices, int64_t at)
{
    struct span rest = span_of(choices), word = {0};

    for (int64_t i = 0; i <= at && rest.p; i++)
        word = span_split(&rest, ' ');
    buf_add(out, word);
}

static void put_cidrs(struct buf *out, const struct config_cidr *v, size_t n)
{
    static const unsigned char MAPPED[12] = {[10] = 0xff, [11] = 0xff};

    for (size_t i = 0; i < n; i++) {
        bool is_v4 = memcmp(v[i].addr, MAPPED, sizeof(MAPPED)) == 0 && v[i].prefix >= 96;
        char text[INET6_ADDRSTRLEN] = "";

        (void)inet_ntop(is_v4 ? AF_INET : AF_INET6, v[i].addr + (is_v4 ? 12 : 0), text, sizeof(text));
        buf_addf(out, "%s%s/%u", i ? ", " : "", text, v[i].prefix - (is_v4 ? 96 : 0));
    }
}

static void put_pointer(struct buf *out, const struct option_row *row, const void *field, size_t n)
{
    const char *const *names;
    const char *z;

    memcpy(&z, field, sizeof(z));
    if (row->type == OPT_CIDRS) {
        put_cidrs(out, (const struct config_cidr *)(const void *)z, n);
    } else if (row->type == OPT_NAMES) {
        names = (const char *const *)(const void *)z;
        for (size_t i = 0; i < n; i++)
            buf_addf(out, "%s%s", i ? ", " : "", names[i]);
    } else if (row->type == OPT_ZONE) {
        buf_addz(out, zone_name((const struct zone *)(const void *)z));
    } else if (z) {
        buf_addz(out, row->type == OPT_DSN ? (*z ? "(set)" : "") : z);
    }
}

static void put_value(struct buf *out, const struct option_row *row, const unsigned char *base)
{
    const unsigned char *field = base + row->offset;
    const struct config_address *at;
    char levels[LEVELS_TEXT];
    double ratio;

    switch (row->type) {
    case OPT_BOOL:
        buf_addz(out, *field ? "true" : "false");
        break;
    case OPT_COUNT:
    case OPT_SIZE:
        buf_addf(out, "%" PRId64, number_at(field, row->type == OPT_SIZE ? sizeof(size_t) : row->width));
        break;
    case OPT_DURATION:
        put_duration(out, number_at(field, sizeof(int64_t)));
        break;
    case OPT_RATIO:
        memcpy(&ratio, field, sizeof(ratio));
        buf_addf(out, "%.6g", ratio);
        break;
    case OPT_MONEY:
        buf_addf(out, "%.9g", (double)number_at(field, sizeof(int64_t)) / 1e9);
        break;
    case OPT_ENUM:
        put_choice(out, row->choices, number_at(field, row->width));
        break;
    case OPT_LEVELS:
        levels_text((const struct config_levels *)(const void *)field, levels);
        buf_addz(out, levels);
        break;
    case OPT_ADDRESS:
        at = (const struct config_address *)(const void *)field;
        if (at->host && at->host[0])
            buf_addf(out, strchr(at->host, ':') ? "[%s]:%u" : "%s:%u", at->host, at->port);
        break;
    case OPT_SECRET:
        buf_addz(out, ((const struct secret *)(const void *)field)->len ? "(set)" : "");
        break;
    case OPT_DIGEST:
    case OPT_SECRETS: /* of items of lists only */
        break;
    default:
        put_pointer(out, row, field,
                    row->n_offset ? (size_t)number_at(base + row->n_offset, sizeof(size_t)) : 0);
    }
}

static void put_origin(struct buf *out, const struct origin *at)
{
    if (at->flag)
        buf_addf(out, "flag %s", at->flag);
    else if (at->variable)
        buf_addf(out, "environment %s", at->variable);
    else if (at->file)
        buf_addf(out, "%s:%u:%u", at->file, (unsigned)at->place.line, (unsigned)at->place.column);
    else
        buf_addz(out, "default");
}

void config_describe(const struct config *c, config_value_fn fn, void *user)
{
    const struct config *own = c->file ? c->file : c;

    for (size_t i = 0; i < OPTIONS_LEN; i++) {
        struct buf value AUTO(buf_release) = {.max = 64 << 10}, origin AUTO(buf_release) = {.max = 8192};
        const struct option_row *row = &OPTIONS[i];

        if (!option_is_root(row))
            continue;
        put_value(&value, row, (const unsigned char *)own);
        put_origin(&origin, &own->set_by[i]);
        buf_addc(&value, '\0');
        buf_addc(&origin, '\0');
        fn(user, &(struct config_value){.path = row->path,
                                        .value = value.p,
                                        .origin = origin.p,
                                        .is_live = row->is_live,
                                        .is_secret = row->type == OPT_SECRET || row->type == OPT_DSN});
    }
}
