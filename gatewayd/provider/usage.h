/* SPDX-License-Identifier: Apache-2.0 */
/* Token counts as vendors report them, made into `struct usage`. Nothing outside provider/ includes it. */
#ifndef PROVIDER_USAGE_H
#define PROVIDER_USAGE_H

#include "libshared/base/span.h"
#include "libshared/base/usage.h"

/* A `usage` object of any OpenAI-compatible vendor, old and new spelling. Replaces the token counts in `u`
 * (images are kept) and returns true when the object counts tokens; changes nothing otherwise. */
bool usage_read_openai(struct usage *u, struct span object);
/* Merges a `usage` object of an Anthropic message_start, message_delta or whole message into `u`. */
bool usage_merge_anthropic(struct usage *u, struct span object);

#endif
