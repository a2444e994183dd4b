/* SPDX-License-Identifier: Apache-2.0 */
#include "libshared/cli/csv.h"

#include <string.h>

#include "libshared/cli/term.h"

void csv_add_text(struct buf *b, const char *z)
{
    bool quoted = z[strcspn(z, ",\"\r\n")] != '\0';

    if (quoted)
        buf_addc(b, '"');
    if (strchr("=+-@\t", z[0]) && z[0])
        buf_addc(b, '\'');
    for (; *z; z++) {
        size_t n = strchr("\t\r\n", *z) ? 0 : term_control(span_of(z));

        if (*z == '"')
            buf_addc(b, '"');
        buf_addc(b, n ? '?' : *z);
        z += n > 1 ? n - 1 : 0;
    }
    if (quoted)
        buf_addc(b, '"');
}
