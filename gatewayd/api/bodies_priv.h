/* SPDX-License-Identifier: Apache-2.0 */
/* What bodies are made of, for the table of shapes. Each is beside the handler that reads it. */
#ifndef API_BODIES_PRIV_H
#define API_BODIES_PRIV_H

#include "gatewayd/api/shapes.h"

extern const struct api_body BODY_ADJUST, BODY_BREAKER, BODY_BUDGET, BODY_BUDGET_DEED, BODY_TENANT_NEW,
    BODY_TENANT, BODY_KEY_NEW, BODY_KEY, BODY_KEY_ROTATE, BODY_PLAN, BODY_PROVIDER, BODY_LIFE, BODY_AGGREGATE,
    BODY_RECONCILE;
extern const struct api_body BODY_REASON; /* nothing but why it is done */

#endif
