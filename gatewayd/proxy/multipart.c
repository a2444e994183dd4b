/* SPDX-License-Identifier: Apache-2.0 */
/* multipart/form-data, only as far as finding the part named `model`. */
#include "gatewayd/proxy/body.h"

static struct span boundary_of(struct span content_type)
{
    struct span rest = content_type;

    (void)span_split(&rest, ';');
    while (rest.p) {
        struct span value = span_trim(span_split(&rest, ';'));
        struct span name = span_split(&value, '=');

        if (!span_eq_nocase(name, SPAN_LIT("boundary")) || !value.p)
            continue;
        if (value.len >= 2 && value.p[0] == '"' && value.p[value.len - 1] == '"')
            value = span_make(value.p + 1, value.len - 2);
        return value;
    }
    return (struct span){NULL, 0};
}

static const char *find(struct span in, struct span what)
{
    return in.len >= what.len ? memmem(in.p, in.len, what.p, what.len) : NULL;
}

/* `name="model"` or `name=model` as a parameter of its own, not inside `filename=`. */
static bool is_model_part(struct span headers)
{
    static const char *const FORMS[] = {"name=\"model\"", "name=model"};
    const char *end = headers.p + headers.len;

    for (size_t i = 0; i < ARRAY_LEN(FORMS); i++) {
        const char *at = find(headers, span_of(FORMS[i]));
        const char *behind = at ? at + strlen(FORMS[i]) : NULL;

        if (at && (at == headers.p || strchr(" ;\t", at[-1])) && (behind == end || strchr(" ;\t\r", *behind)))
            return true;
    }
    return false;
}

static enum err_code take_part(struct span part, struct body_plan *plan, struct err *err)
{
    const char *blank = find(part, SPAN_LIT("\r\n\r\n"));
    struct span value;

    if (!blank)
        return err_set(err, ERR_BAD_BODY, "a multipart part has no blank line behind its headers");
    if (!is_model_part(span_make(part.p, (size_t)(blank - part.p))))
        return ERR_OK;
    if (plan->model.p)
        return err_set(err, ERR_BAD_BODY, "'model' is given twice");
    value = span_make(blank + 4, part.len - (size_t)(blank + 4 - part.p));
    if (value.len >= 2 && memcmp(value.p + value.len - 2, "\r\n", 2) == 0)
        value.len -= 2;
    if (!value.len || value.len > LIMIT_MODEL_BYTES || memchr(value.p, '\0', value.len))
        return err_set(err, ERR_BAD_BODY, "'model' must be a string of 1 to %u bytes", LIMIT_MODEL_BYTES);
    (void)span_copy(plan->model_name, sizeof(plan->model_name), value);
    plan->model = value;
    return ERR_OK;
}

enum err_code body_scan_multipart(struct span body, struct span content_type, struct body_plan *plan,
                                  struct err *err)
{
    struct span boundary = boundary_of(content_type);
    char mark[80] = "--";
    struct span delimiter, rest = body;

    plan->n = 1;
    if (!boundary.len || boundary.len > 70)
        return err_set(err, ERR_BAD_MEDIA_TYPE,
                       "send multipart/form-data with a boundary of 1 to 70 characters");
    delimiter = span_make(mark, 2 + span_copy(mark + 2, sizeof(mark) - 2, boundary));
    if (!span_starts(body, delimiter))
        return err_set(err, ERR_BAD_BODY, "the multipart body does not begin with its boundary");
    for (;;) {
        const char *next;
        enum err_code e;

        rest = span_make(rest.p + delimiter.len, rest.len - delimiter.len);
        if (span_starts(rest, SPAN_LIT("--")))
            return ERR_OK;
        next = find(rest, delimiter);
        if (!next)
            return err_set(err, ERR_BAD_BODY, "the multipart body has no closing boundary");
        e = take_part(span_make(rest.p, (size_t)(next - rest.p)), plan, err);
        if (e)
            return e;
        rest = span_make(next, rest.len - (size_t)(next - rest.p));
    }
}
