/* SPDX-License-Identifier: Apache-2.0 */
#include "gatewayd/http/surroundings.h"

#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include "libshared/base/compiler.h"
#include "libshared/base/span.h"

void surroundings_clear(void)
{
    static const char *const FOREIGN[] = {"http_proxy", "https_proxy", "all_proxy",    "no_proxy",
                                          "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY",    "NO_PROXY",
                                          "NETRC",      "CURL_HOME",   "SSLKEYLOGFILE"};

    for (size_t i = 0; i < ARRAY_LEN(FOREIGN); i++)
        (void)unsetenv(FOREIGN[i]);
    (void)signal(SIGPIPE, SIG_IGN);
}

void surroundings_ca_file(char *dst, size_t cap)
{
    static const char *const PLACES[] = {"/etc/ssl/certs/ca-certificates.crt",
                                         "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"};
    const char *found = getenv("GATEWAYD_CA_FILE");

    for (size_t i = 0; i < ARRAY_LEN(PLACES) && !(found && found[0]); i++)
        if (access(PLACES[i], R_OK) == 0)
            found = PLACES[i];
    (void)span_copy(dst, cap, span_of(found));
}
