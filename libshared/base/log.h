/* SPDX-License-Identifier: Apache-2.0 */
/* The diagnostic log: one JSON object a line on stderr, control characters escaped, lines capped at 4 KiB.
 * Any thread may call it. It is not the access log; that is a sink behind the journal. */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include "libshared/base/compiler.h"

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };

void log_set_level(enum log_level level);
/* Program name shown in each line; a literal. */
void log_set_name(const char *name);
void log_msg(enum log_level level, const char *fmt, ...) PRINTF_LIKE(2, 3);

#define log_error(...) log_msg(LOG_ERROR, __VA_ARGS__)
#define log_warn(...)  log_msg(LOG_WARN, __VA_ARGS__)
#define log_info(...)  log_msg(LOG_INFO, __VA_ARGS__)
#define log_debug(...) log_msg(LOG_DEBUG, __VA_ARGS__)

#endif
