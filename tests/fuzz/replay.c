/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs a fuzz target without a fuzzer: gcc and the sanitizers see in every test run what libFuzzer
 * found before.
 *
 *     fuzz_x_replay FILE|FOLDER...
 *
 * For each file (a folder's regular files, not its subfolders): the input, its prefixes, and a
 * fixed set of one-byte changes. Every input lies in memory of exactly its size, so that a read
 * beyond it is seen. Prints one line; fails when there was no file.
 */
#include <dirent.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define FILE_BYTES_MAX (1 << 20)
#define PREFIXES_MAX   2048
#define CHANGES_MAX    512
#define PATH_BYTES     4096

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static unsigned long files, inputs;

static void run_one(const uint8_t *data, size_t size)
{
    uint8_t *copy = malloc(size > 0 ? size : 1);

    if (copy == NULL) {
        fprintf(stderr, "out of memory\n");
        exit(1);
    }
    if (size > 0) {
        memcpy(copy, data, size);
    }
    (void)LLVMFuzzerTestOneInput(copy, size);
    inputs++;
    free(copy);
}

/* All prefixes of a short input; of a long one those near its head and then at even steps. */
static void run_prefixes(const uint8_t *data, size_t size)
{
    size_t step = size / PREFIXES_MAX + 1;

    for (size_t n = 0; n < size; n += n < PREFIXES_MAX / 2 ? 1 : step) {
        run_one(data, n);
    }
}

/* The same changes in every run: a generator with a fixed start. */
static void run_changes(uint8_t *data, size_t size)
{
    uint64_t x = 0x9e3779b97f4a7c15U;
    size_t count = size * 4 < CHANGES_MAX ? size * 4 : CHANGES_MAX;

    for (size_t i = 0; i < count; i++) {
        size_t at;
        uint8_t was;

        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        at = (size_t)(x >> 16) % size;
        was = data[at];
        /* Single bits, the extremes of a length byte, and anything. */
        switch (i % 4) {
        case 0:
            data[at] = (uint8_t)(was ^ (1U << (x & 7)));
            break;
        case 1:
            data[at] = 0;
            break;
        case 2:
            data[at] = 0xff;
            break;
        default:
            data[at] = (uint8_t)x;
            break;
        }
        run_one(data, size);
        data[at] = was;
    }
}

static int run_file(const char *path)
{
    FILE *f = fopen(path, "rb");
    uint8_t *data;
    size_t size;

    if (f == NULL) {
        fprintf(stderr, "%s: %s\n", path, strerror(errno));
        return -1;
    }
    data = malloc(FILE_BYTES_MAX);
    if (data == NULL) {
        fclose(f);
        return -1;
    }
    size = fread(data, 1, FILE_BYTES_MAX, f);
    fclose(f);
    files++;
    run_one(data, size);
    run_prefixes(data, size);
    if (size > 0) {
        run_changes(data, size);
    }
    free(data);
    return 0;
}

static int run_folder(const char *path)
{
    DIR *d = opendir(path);
    const struct dirent *entry;
    int rc = 0;

    if (d == NULL) {
        fprintf(stderr, "%s: %s\n", path, strerror(errno));
        return -1;
    }
    while (rc == 0 && (entry = readdir(d)) != NULL) {
        char name[PATH_BYTES];
        struct stat st;
        int len = snprintf(name, sizeof(name), "%s/%s", path, entry->d_name);

        if (len > 0 && (size_t)len < sizeof(name) && stat(name, &st) == 0 && S_ISREG(st.st_mode)) {
            rc = run_file(name);
        }
    }
    closedir(d);
    return rc;
}

int main(int argc, char **argv)
{
    const char *name = strrchr(argv[0], '/');

    for (int i = 1; i < argc; i++) {
        struct stat st;

        if (stat(argv[i], &st) != 0) {
            fprintf(stderr, "%s: %s\n", argv[i], strerror(errno));
            return 1;
        }
        if ((S_ISDIR(st.st_mode) ? run_folder(argv[i]) : run_file(argv[i])) != 0) {
            return 1;
        }
    }
    printf("%s: %lu files, %lu inputs\n", name != NULL ? name + 1 : argv[0], files, inputs);
    return files > 0 ? 0 : 1;
}
