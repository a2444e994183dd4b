/* SPDX-License-Identifier: Apache-2.0 */
/* What routes take and answer, beside the table of routes: query parameters (checked before the handler runs), members of a
 * body, and the schema of the reply. The OpenAPI document is made of it.
 *
 * A schema is a line of members, `name:type`, with blanks between. Types: s text, i whole number, n number, b boolean, t time
 * (RFC 3339), o any object, x anything, a name with a capital letter another schema; [T] a list, {T} an object whose members
 * are all T. A `?` behind a type: may be null; behind a name: may be missing. */
#ifndef API_SHAPES_H
#define API_SHAPES_H

#include "gatewayd/api/api.h"
#include "gatewayd/api/fields.h"

#define API_PARAMS_MAX  8u
#define API_SUBJECT_MAX 330u /* of an entry of the audit log: provider and model */

enum api_param_type { PARAM_COUNT, PARAM_CHOICE, PARAM_PERCENTILES, PARAM_NAME, PARAM_TEXT };
struct api_param {
    const char *name;
    enum api_param_type type;
    int64_t min, max; /* of a count; of a text the bytes that it has at most */
    const char *fallback, *choices, *summary;
};

struct api_body {
    const struct field *fields;
    size_t n;
};

struct api_shape {
    const char *method, *path; /* of its route */
    const char *reply;         /* a type, or NULL: text */
    const struct api_body *body;
    int status; /* of a success; 0: 200 */
    struct api_param params[API_PARAMS_MAX + 1];
};
/* Ends with a row whose method is NULL; a test holds it against API_ROUTES. */
extern const struct api_shape API_SHAPES[];
const struct api_shape *api_shape_of(const struct api_route *row);

struct api_schema {
    const char *name, *members;
};
extern const struct api_schema API_SCHEMAS[];

#endif
