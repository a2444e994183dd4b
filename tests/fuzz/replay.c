/* SPDX-License-Identifier: Apache-2.0 */
/* Stands in for libFuzzer where it is not: feeds every file of the directories named on the command line, and the
 * empty input, to the target. The input is given in a heap block of its exact size, so that AddressSanitizer and
 * valgrind see a read past its end. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int replay_file(const char *path)
{
    FILE *f = fopen(path, "rb");
    if (!f) {
        perror(path);
        return 1;
    }
    (void)fseek(f, 0, SEEK_END);
    long size = ftell(f);
    rewind(f);
    uint8_t *data = malloc(size > 0 ? (size_t)size : 1);
    int failed = !data || size < 0 || fread(data, 1, (size_t)size, f) != (size_t)size;
    (void)fclose(f);
    if (!failed) {
        (void)LLVMFuzzerTestOneInput(data, (size_t)size);
    }
    free(data);
    return failed;
}

static int replay_dir(const char *dir, size_t *count)
{
    struct dirent **names;
    int n = scandir(dir, &names, NULL, alphasort);
    if (n < 0) {
        perror(dir);
        return 1;
    }
    int failed = 0;
    for (int i = 0; i < n; i++) {
        char path[4096];
        if (names[i]->d_name[0] != '.') {
            (void)snprintf(path, sizeof path, "%s/%s", dir, names[i]->d_name);
            failed |= replay_file(path);
            *count += 1;
        }
        free(names[i]);
    }
    free(names);
    return failed;
}

int main(int argc, char **argv)
{
    static const uint8_t nothing[1];
    size_t count = 0;
    int failed = 0;
    (void)LLVMFuzzerTestOneInput(nothing, 0);
    for (int i = 1; i < argc; i++) {
        failed |= replay_dir(argv[i], &count);
    }
    (void)printf("replayed %zu inputs\n", count);
    return failed;
}
