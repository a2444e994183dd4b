/* SPDX-License-Identifier: Apache-2.0 */
/* A recursive descent over PromQL's grammar without its types; any thread, owns nothing.
 *
 *   expr     unary { operator [bool] [on|ignoring (…) [group_left|group_right [(…)]]] unary }
 *   unary    {+|-} primary { '[' window [':' [step]] ']' | offset window | @ time }
 *   primary  number | string | '(' expr ')' | aggregation | function '(' args ')' | [name] ['{' matchers '}']
 *
 * Precedence does not matter to what is asked here, so operators are one level. Windows may be variables of a dashboard
 * ($__rate_interval). The tricky part is a name: it is a keyword, an aggregation, a function or a metric by what follows. */
#include "libshared/catalog/promql.h"

#include <ctype.h>

#include "libshared/base/compiler.h"

#define DEPTH_MAX     64
#define SELECTORS_MAX 64

struct selector {
    struct span name;
    size_t at;       /* behind the name, or behind the opening brace */
    bool has_braces; /* `at` is within them */
    bool is_empty;   /* nothing stands in them */
};

struct parse {
    const char *base, *p, *end;
    struct err *err;
    bool bad;
    unsigned depth;
    struct selector found[SELECTORS_MAX];
    size_t n_found;
};

static bool expr(struct parse *s);

static bool fail(struct parse *s, const char *what)
{
    if (!s->bad && s->err)
        (void)!err_set(s->err, ERR_CONFIG, "%s at character %zu", what, (size_t)(s->p - s->base) + 1);
    s->bad = true;
    return false;
}

/* ---- tokens --------------------------------------------------------------------------------------------------------- */

static void skip(struct parse *s)
{
    while (s->p < s->end) {
        if (*s->p == '#')
            while (s->p < s->end && *s->p != '\n')
                s->p++;
        else if (isspace((unsigned char)*s->p))
            s->p++;
        else
            return;
    }
}

static char peek(struct parse *s)
{
    skip(s);
    return s->p < s->end ? *s->p : '\0';
}

static bool take(struct parse *s, char c)
{
    if (peek(s) != c)
        return false;
    s->p++;
    return true;
}

static bool must(struct parse *s, char c)
{

    if (take(s, c))
        return true;
    switch (c) {
    case ')':
        return fail(s, "')' expected");
    case '(':
        return fail(s, "'(' expected");
    case ']':
        return fail(s, "']' expected");
    case '}':
        return fail(s, "'}' expected");
    default:
        return fail(s, "something else expected");
    }
}

static bool is_word(char c, bool is_first)
{
    return isalpha((unsigned char)c) || c == '_' || c == ':' || (!is_first && isdigit((unsigned char)c));
}

static struct span word(struct parse *s)
{
    const char *from;

    skip(s);
    for (from = s->p; s->p < s->end && is_word(*s->p, s->p == from);)
        s->p++;
    return span_make(from, (size_t)(s->p - from));
}

static struct span peek_word(struct parse *s)
{
    const char *at = s->p;
    struct span w = word(s);

    s->p = at;
    return w;
}

static bool one_of(struct span w, const char *const *names)
{
    for (; *names; names++)
        if (span_eq_nocase(w, span_of(*names)))
            return true;
    return false;
}

static bool take_word(struct parse *s, const char *const *names)
{
    const char *at = s->p;

    if (one_of(word(s), names))
        return true;
    s->p = at;
    return false;
}

static bool string(struct parse *s)
{
    char quote = peek(s);

    for (s->p++; s->p < s->end && *s->p != quote; s->p++)
        if (*s->p == '\\' && quote != '`' && s->p + 1 < s->end)
            s->p++;
    return s->p < s->end ? (s->p++, true) : fail(s, "a text without its end");
}

/* 5m, 1h30m, $__rate_interval, ${window} */
static bool window(struct parse *s)
{
    const char *from;

    if (take(s, '$')) {
        if (take(s, '{'))
            return word(s).len ? must(s, '}') : fail(s, "the name of a variable expected");
        return word(s).len || fail(s, "the name of a variable expected");
    }
    skip(s);
    for (from = s->p; s->p < s->end && isdigit((unsigned char)*s->p);) {
        while (s->p < s->end && isdigit((unsigned char)*s->p))
            s->p++;
        if (s->end - s->p >= 2 && s->p[0] == 'm' && s->p[1] == 's')
            s->p += 2;
        else if (s->p < s->end && *s->p && strchr("smhdwy", *s->p))
            s->p++;
        else
            return fail(s, "a length of time needs a unit");
    }
    return s->p > from || fail(s, "a length of time expected");
}

static bool number(struct parse *s)
{
    bool is_hex = s->end - s->p > 1 && s->p[0] == '0' && (s->p[1] == 'x' || s->p[1] == 'X');

    for (s->p += is_hex ? 2 : 0; s->p < s->end; s->p++) {
        char c = *s->p;

        if ((c == '+' || c == '-') && !is_hex && (s->p[-1] == 'e' || s->p[-1] == 'E'))
            continue;
        if (is_hex ? !isxdigit((unsigned char)c)
                   : !(isdigit((unsigned char)c) || c == '.' || c == 'e' || c == 'E'))
            break;
    }
    return s->p < s->end && is_word(*s->p, true) ? fail(s, "a number runs into a name") : true;
}

/* ---- grammar -------------------------------------------------------------------------------------------------------- */

static const char *const AGGREGATIONS[] = {"sum",    "min",      "max",   "avg",          "group",
                                           "stddev", "stdvar",   "count", "count_values", "bottomk",
                                           "topk",   "quantile", NULL};
static const char *const BY[] = {"by", "without", NULL};
static const char *const MATCHING[] = {"on", "ignoring", NULL};
static const char *const GROUPING[] = {"group_left", "group_right", NULL};
static const char *const SETS[] = {"and", "or", "unless", "atan2", NULL};
static const char *const BOOL[] = {"bool", NULL};
static const char *const OFFSET[] = {"offset", NULL};
static const char *const VALUES[] = {"inf", "nan", NULL};
static const char *const FUNCTIONS[] = {"abs",
                                        "absent",
                                        "absent_over_time",
                                        "acos",
                                        "acosh",
                                        "asin",
                                        "asinh",
                                        "atan",
                                        "atanh",
                                        "avg_over_time",
                                        "ceil",
                                        "changes",
                                        "clamp",
                                        "clamp_max",
                                        "clamp_min",
                                        "cos",
                                        "cosh",
                                        "count_over_time",
                                        "day_of_month",
                                        "day_of_week",
                                        "day_of_year",
                                        "days_in_month",
                                        "deg",
                                        "delta",
                                        "deriv",
                                        "end",
                                        "exp",
                                        "floor",
                                        "histogram_count",
                                        "histogram_fraction",
                                        "histogram_quantile",
                                        "histogram_sum",
                                        "holt_winters",
                                        "hour",
                                        "idelta",
                                        "increase",
                                        "irate",
                                        "label_join",
                                        "label_replace",
                                        "last_over_time",
                                        "ln",
                                        "log10",
                                        "log2",
                                        "max_over_time",
                                        "min_over_time",
                                        "minute",
                                        "month",
                                        "pi",
                                        "predict_linear",
                                        "present_over_time",
                                        "quantile_over_time",
                                        "rad",
                                        "rate",
                                        "resets",
                                        "round",
                                        "scalar",
                                        "sgn",
                                        "sin",
                                        "sinh",
                                        "sort",
                                        "sort_desc",
                                        "sqrt",
                                        "start",
                                        "stddev_over_time",
                                        "stdvar_over_time",
                                        "sum_over_time",
                                        "tan",
                                        "tanh",
                                        "time",
                                        "timestamp",
                                        "vector",
                                        "year",
                                        NULL};

static bool labels(struct parse *s)
{
    if (!must(s, '('))
        return false;
    while (!take(s, ')')) {
        if (!word(s).len)
            return fail(s, "the name of a label expected");
        if (!take(s, ',') && peek(s) != ')')
            return must(s, ')');
    }
    return true;
}

static bool arguments(struct parse *s)
{
    if (!must(s, '('))
        return false;
    while (!take(s, ')')) {
        if (!expr(s))
            return false;
        if (!take(s, ',') && peek(s) != ')')
            return must(s, ')');
    }
    return true;
}

static bool matchers(struct parse *s)
{
    while (!take(s, '}')) {
        if (!word(s).len)
            return fail(s, "the name of a label expected");
        if (!(take(s, '=') ? (take(s, '~'), true) : take(s, '!') && (take(s, '=') || take(s, '~'))))
            return fail(s, "'=', '!=', '=~' or '!~' expected");
        if (!strchr("\"'`", peek(s)) || !peek(s))
            return fail(s, "the value of a label is a text in quotes");
        if (!string(s))
            return false;
        if (!take(s, ',') && peek(s) != '}')
            return must(s, '}');
    }
    return true;
}

static bool selector(struct parse *s, struct span name)
{
    struct selector *f = &s->found[s->n_found];

    if (s->n_found == SELECTORS_MAX)
        return fail(s, "too many selectors");
    s->n_found++;
    *f = (struct selector){.name = name, .at = (size_t)(s->p - s->base)};
    if (!take(s, '{'))
        return name.len > 0 || fail(s, "a metric or a value expected");
    f->has_braces = true;
    f->at = (size_t)(s->p - s->base);
    f->is_empty = peek(s) == '}';
    return matchers(s);
}

static bool named(struct parse *s)
{
    struct span w = word(s), next = peek_word(s);

    if (one_of(w, AGGREGATIONS) && (peek(s) == '(' || one_of(next, BY))) {
        if (take_word(s, BY))
            return labels(s) && arguments(s);
        return arguments(s) && (!take_word(s, BY) || labels(s));
    }
    if (peek(s) == '(') {
        s->p = w.p;
        if (!one_of(w, FUNCTIONS))
            return fail(s, "an unknown function");
        s->p = w.p + w.len;
        return arguments(s);
    }
    if (one_of(w, VALUES))
        return true;
    if (one_of(w, SETS) || one_of(w, BY) || one_of(w, MATCHING) || one_of(w, GROUPING) || one_of(w, OFFSET)) {
        s->p = w.p;
        return fail(s, "a metric or a value expected");
    }
    return selector(s, w);
}

static bool primary(struct parse *s)
{
    char c = peek(s);

    if (c == '(') {
        s->p++;
        return expr(s) && must(s, ')');
    }
    if (c == '"' || c == '\'' || c == '`')
        return string(s);
    if (isdigit((unsigned char)c) || (c == '.' && s->end - s->p > 1 && isdigit((unsigned char)s->p[1])))
        return number(s);
    return is_word(c, true) ? named(s) : selector(s, (struct span){s->p, 0});
}

static bool modified(struct parse *s)
{
    while (!s->bad) {
        if (take(s, '[')) {
            if (!window(s) || (take(s, ':') && peek(s) != ']' && !window(s)) || !must(s, ']'))
                return false;
        } else if (take_word(s, OFFSET)) {
            (void)take(s, '-');
            if (!window(s))
                return false;
        } else if (take(s, '@')) {
            if (!primary(s))
                return false;
        } else {
            return true;
        }
    }
    return false;
}

static bool unary(struct parse *s)
{
    while (take(s, '-') || take(s, '+'))
        ;
    return primary(s) && modified(s);
}

static bool binary(struct parse *s)
{
    char c = peek(s);

    if (take_word(s, SETS))
        return true;
    if (!c || !strchr("+-*/%^<>=!", c))
        return false;
    s->p++;
    if (strchr("<>=!", c))
        return take(s, '=') || c == '<' || c == '>' || fail(s, "'==' or '!=' expected");
    return true;
}

static bool operands(struct parse *s)
{
    if (!unary(s))
        return false;
    while (binary(s)) {
        (void)take_word(s, BOOL);
        if (take_word(s, MATCHING)) {
            if (!labels(s))
                return false;
            if (take_word(s, GROUPING) && peek(s) == '(' && !labels(s))
                return false;
        }
        if (!unary(s))
            return false;
    }
    return !s->bad;
}

static bool expr(struct parse *s)
{
    bool is_good;

    if (++s->depth > DEPTH_MAX)
        return fail(s, "nested too deeply");
    is_good = operands(s);
    s->depth--;
    return is_good;
}

static bool parse(struct parse *s, struct span text, struct err *err)
{
    *s = (struct parse){.base = text.p, .p = text.p, .end = text.p + text.len, .err = err};
    if (!peek(s))
        return fail(s, "an empty expression");
    return expr(s) && ((skip(s), s->p == s->end) || fail(s, "an operator expected"));
}

/* ---- what is asked -------------------------------------------------------------------------------------------------- */

enum err_code promql_check(struct span text, struct err *err)
{
    struct parse s;

    return parse(&s, text, err) ? ERR_OK : ERR_CONFIG;
}

void promql_metrics(struct span text, void (*each)(struct span name, void *ctx), void *ctx)
{
    struct parse s;

    (void)parse(&s, text, NULL);
    for (size_t i = 0; i < s.n_found; i++)
        if (s.found[i].name.len)
            each(s.found[i].name, ctx);
}

void promql_narrow(struct buf *out, struct span text, const char *(*more)(struct span name, void *ctx),
                   void *ctx)
{
    struct parse s;
    size_t done = 0;

    (void)parse(&s, text, NULL);
    for (size_t i = 0; i < s.n_found; i++) {
        const struct selector *f = &s.found[i];
        const char *matchers = more(f->name, ctx);

        if (!matchers)
            continue;
        buf_add(out, span_make(text.p + done, f->at - done));
        if (f->has_braces)
            buf_addf(out, "%s%s", matchers, f->is_empty ? "" : ",");
        else
            buf_addf(out, "{%s}", matchers);
        done = f->at;
    }
    buf_add(out, span_make(text.p + done, text.len - done));
}
