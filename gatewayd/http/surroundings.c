/* SPDX-License-Identifier: Apache-2.0 */
/* Main thread, while there is no other: the environment is not locked. */
#include "gatewayd/http/surroundings.h"

#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include "libshared/base/compiler.h"

void surroundings_clear(void)
{
    static const char *const FOREIGN[] = {"http_proxy", "https_proxy", "all_proxy",    "no_proxy",
                                          "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY",    "NO_PROXY",
                                          "NETRC",      "CURL_HOME",   "SSLKEYLOGFILE"};

    for (size_t i = 0; i < ARRAY_LEN(FOREIGN); i++)
        (void)unsetenv(FOREIGN[i]);
    (void)signal(SIGPIPE, SIG_IGN);
}

const char *surroundings_ca_file(void)
{
    static const char *const PLACES[] = {"/etc/ssl/certs/ca-certificates.crt",
                                         "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"};

    for (size_t i = 0; i < ARRAY_LEN(PLACES); i++)
        if (access(PLACES[i], R_OK) == 0)
            return PLACES[i];
    return NULL;
}
