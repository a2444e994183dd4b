/* SPDX-License-Identifier: Apache-2.0 */
/* One declaration per dialect, for providers.c and the file that implements it. */
#ifndef PROVIDER_PROVIDERS_H
#define PROVIDER_PROVIDERS_H

#include "gatewayd/provider/provider.h"

#define KIND(name) extern const struct provider_ops PROVIDER_##name;
#include "libshared/catalog/kinds.def"
#undef KIND

#endif
