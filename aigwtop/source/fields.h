/* SPDX-License-Identifier: Apache-2.0 */
/* Objects that the realtime store and the API write alike, into samples. Members that are missing stay unknown. */
#ifndef AIGWTOP_SOURCE_FIELDS_H
#define AIGWTOP_SOURCE_FIELDS_H

#include "aigwtop/source/sample.h"

void fields_health(struct sample_row *r, const json_t *o);
void fields_breaker(struct sample *s, const json_t *o);
/* An anomaly is an event too, and gets a row of its own. */
void fields_event(struct sample *s, const json_t *o);
void fields_error(struct sample *s, const char *provider, const json_t *o);
void fields_budget(struct sample *s, const json_t *o);
void fields_limit(struct sample *s, const json_t *o);
void fields_anomaly(struct sample *s, const json_t *o);

#endif
