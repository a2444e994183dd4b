/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>

int main(void)
{
    (void)puts("gatewayd " GATEWAYD_VERSION);
    return 0;
}
