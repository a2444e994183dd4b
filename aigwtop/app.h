/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AIGWTOP_APP_H
#define AIGWTOP_APP_H

#include "aigwtop/batch.h"

/* The screen; returns an exit code. */
int app_run(const struct options *o);

#endif
