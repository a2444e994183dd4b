/* SPDX-License-Identifier: Apache-2.0 */
/* The access log: one JSON object a line and request, its attempts nested. Lines go through a bounded buffer
 * to a thread of its own; when the disk or the reader of a pipe is too slow, lines are dropped and counted.
 */
#ifndef TELEMETRY_SINK_LOG_H
#define TELEMETRY_SINK_LOG_H

#include "gatewayd/journal/recorder.h"
#include "libshared/base/buf.h"

extern const struct sink_ops SINK_LOG;

/* A path (created with mode 0600, appended to) or "-" for stdout. The result is the `self` of SINK_LOG. */
void *sink_log_new(const char *path, struct err *err);

/* The line, without a newline. */
void sink_log_format(struct buf *out, const struct recorded *r);

#endif
