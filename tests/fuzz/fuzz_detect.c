/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Covers http_detect() and http_detect_server() of lib/http/detect.c.
 *
 * Properties: it is decided at 1,024 bytes at the latest; what was called opaque or HTTP/2 remains so with
 * more bytes; a request that the parser accepts is called HTTP/1 and no beginning of it opaque. What a server
 * says is decided at nine bytes at the latest, and remains so.
 */
#include <stdint.h>
#include <stdlib.h>

#include "core/err.h"
#include "http/http1.h"

#define PREFIXES_MAX 1100

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool holds)
{
    if (!holds) {
        abort();
    }
}

/* -1: undecided. */
static int detect(const uint8_t *data, size_t size)
{
    enum detected what = DETECT_OPAQUE;
    char *copy = malloc(MAX(size, 1)); /* of exactly its size */
    int rc;

    require(copy != NULL);
    memcpy(copy, data, size);
    rc = http_detect(bytes_of(copy, size), &what);
    require(rc == 0 || (rc == E_AGAIN && size < 1024));
    free(copy);
    return rc == 0 ? (int)what : -1;
}

/* -1: undecided. */
static int detect_server(const uint8_t *data, size_t size)
{
    char *copy = malloc(MAX(size, 1));
    bool is_http = false;
    int rc;

    require(copy != NULL);
    memcpy(copy, data, size);
    rc = http_detect_server(bytes_of(copy, size), &is_http);
    require(rc == 0 || (rc == E_AGAIN && size < 9));
    free(copy);
    return rc == 0 ? is_http : -1;
}

static bool is_request(const uint8_t *data, size_t size)
{
    struct arena arena;
    struct head h;
    size_t scanned = 0, consumed = 0;
    char *copy;
    int rc;

    arena_init(&arena, 1u << 20);
    copy = arena_try(&arena, MAX(size, 1));
    require(copy != NULL);
    memcpy(copy, data, size);
    rc = http1_parse_request(copy, size, &scanned, &arena, &h, &consumed);
    arena_clear(&arena);
    return rc == 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    bool parses;
    int before = -1;

    if (size > HTTP_HEAD_BYTES_MAX) {
        return 0;
    }
    parses = is_request(data, size);
    require(!parses || detect(data, size) == DETECT_HTTP1);
    for (size_t len = 0; len <= MIN(size, (size_t)PREFIXES_MAX); len++) {
        int now = detect(data, len);

        require(before == -1 || before == DETECT_HTTP1 || now == before);
        require(!parses || now == -1 || now == DETECT_HTTP1);
        before = now;
    }
    before = -1;
    for (size_t len = 0; len <= MIN(size, (size_t)16); len++) {
        int now = detect_server(data, len);

        require(before == -1 || now == before);
        before = now;
    }
    return 0;
}
