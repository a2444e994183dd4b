/* SPDX-License-Identifier: Apache-2.0 */
/* Texts of the configuration as values. Pure; the whole text must fit, `out` is written on success only. */
#ifndef CONFIG_VALUE_H
#define CONFIG_VALUE_H

#include "gatewayd/config/config.h"

/* true false yes no on off 1 0, in any case. */
bool value_bool(struct span s, bool *out);
/* Digits with an optional fraction, times 10^scale; false when it would not be whole. */
bool value_decimal(struct span s, unsigned scale, int64_t *out);
/* "500ms" "1h30m" "1.5s" "0", in microseconds. Units us ms s m h d. */
bool value_duration(struct span s, int64_t *out_us);
/* "32MiB" "64KB" "1024", in bytes. */
bool value_size(struct span s, uint64_t *out);
/* "host:port" "[::1]:0" ":8080" "*:8080"; "" is host "". NULL, or the reason why not. */
const char *value_address(struct arena *a, struct span s, struct config_address *out);
/* "10.0.0.0/8" "::1" "192.0.2.7"; NULL, or the reason why not. */
const char *value_cidr(struct span s, struct config_cidr *out);
/* "80" "80, 95": 1 to CONFIG_LEVELS percentages from 1 to 100, rising. */
bool value_levels(struct span s, struct config_levels *out);
/* The same as text, "80, 95". */
#define LEVELS_TEXT 24u
void levels_text(const struct config_levels *l, char dst[LEVELS_TEXT]);
/* One byte each, the lowest first. */
int64_t levels_pack(const struct config_levels *l);
struct config_levels levels_unpack(int64_t packed);
/* Letters, digits, `_ . -`, beginning with a letter or digit, at most LIMIT_NAME_BYTES. */
bool value_is_name(struct span s);
/* Checks a provider's base URL; its normal form has no trailing slash. NULL, or the reason why not. */
const char *value_base_url(struct span s, size_t *out_len);
/* The place of a word among `choices`, which are divided by blanks; `out` may be NULL. */
bool value_choice(struct span s, const char *choices, unsigned *out);
/* The word at that place, empty when there is none. */
struct span value_choice_at(const char *choices, unsigned at);
/* Valid UTF-8 without control characters. */
bool value_is_printable(struct span s);

#endif
