/* SPDX-License-Identifier: Apache-2.0 */
/* Payloads of journal records: facts to bytes and back. Pure; knows nothing of segments. Numbers are
 * little-endian varints (signed ones zigzag), texts are one length byte and their bytes. Labels, error codes
 * and operations travel as text, since their numbers belong to one process or one version; small enums travel
 * as numbers, which the assertions in record.c pin. */
#ifndef JOURNAL_RECORD_PRIV_H
#define JOURNAL_RECORD_PRIV_H

#include "gatewayd/journal/journal.h"

#define RECORD_VERSION     1
#define RECORD_PAYLOAD_MAX 3072u /* above what any record encodes to; see the assertion in record.c */

/* `dst` has room for RECORD_PAYLOAD_MAX; they return the payload's length. */
size_t record_encode_attempt(unsigned char *dst, const struct id *request, label tenant, label key,
                             const struct fact_attempt *a);
size_t record_encode_settle(unsigned char *dst, const struct fact_request *rq);

/* Fills all of `out` but `is_recovered` and `seq`. ERR_UNSUPPORTED: a type or version of another release,
 * sound but not for us. ERR_BAD_BODY: the bytes are not what the type and version promise. */
enum err_code record_decode(unsigned type, unsigned version, struct span payload, struct journal_record *out);

#endif
