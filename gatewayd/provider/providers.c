/* SPDX-License-Identifier: Apache-2.0 */
/* The dialects that are built in. */
#include "gatewayd/provider/providers.h"

static const struct provider_ops *const OPS[] = {
#define KIND(name) &PROVIDER_##name,
#include "libshared/catalog/kinds.def"
#undef KIND
};

static const char *const NAMES[] = {
#define KIND(name) #name,
#include "libshared/catalog/kinds.def"
#undef KIND
    NULL,
};
_Static_assert(ARRAY_LEN(NAMES) == ARRAY_LEN(OPS) + 1, "every dialect has a name");

const struct provider_ops *provider_ops_find(const char *kind)
{
    for (size_t i = 0; i < ARRAY_LEN(OPS); i++)
        if (kind && strcmp(OPS[i]->name, kind) == 0)
            return OPS[i];
    return NULL;
}

const char *const *provider_kinds(void)
{
    return NAMES;
}
