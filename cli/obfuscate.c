/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/diagnostics.h"

#include <openssl/sha.h>

static const char *const telling[] = {
    "authority",   "client_id", "server_id", "target_addr", "target_ip",
    "target_name", "dst",       "hostname",  "sni",
};

static bool is_telling(struct bytes label)
{
    for (size_t i = 0; i < ARRAY_LEN(telling); i++) {
        if (bytes_eq(label, bytes_str(telling[i]))) {
            return true;
        }
    }
    return false;
}

static void add_hash(struct text *to, struct bytes value)
{
    unsigned char digest[SHA256_DIGEST_LENGTH];

    (void)SHA256((const unsigned char *)value.at, value.len, digest);
    text_printf(to, "%02x%02x%02x%02x", digest[0], digest[1], digest[2], digest[3]);
}

/* Bytes up to the quote that ends a label's value; all when there is none. */
static size_t value_len(struct bytes b)
{
    size_t n = 0;

    while (n < b.len && b.at[n] != '"') {
        n += b.at[n] == '\\' && n + 1 < b.len ? 2 : 1;
    }
    return MIN(n, b.len);
}

/* NAME{label="value",...} value */
static void add_series(struct bytes line, struct text *to)
{
    while (line.len > 0) {
        size_t start = 0, len, quote = 0;
        struct bytes label;

        if (!bytes_find(line, BYTES("=\""), &quote)) {
            text_add(to, line);
            return;
        }
        for (size_t i = 0; i < quote; i++) {
            start = line.at[i] == '{' || line.at[i] == ',' ? i + 1 : start;
        }
        label = bytes_first(bytes_from(line, start), quote - start);
        text_add(to, bytes_first(line, quote + 2));
        line = bytes_from(line, quote + 2);
        len = value_len(line);
        if (len > 0 && is_telling(label)) {
            add_hash(to, bytes_first(line, len));
        } else {
            text_add(to, bytes_first(line, len));
        }
        line = bytes_from(line, len);
        if (line.len > 0) { /* the quote: it must not be taken for one that begins */
            text_char(to, '"');
            line = bytes_from(line, 1);
        }
    }
}

void metrics_obfuscate(struct bytes metrics, struct text *to)
{
    struct bytes line;

    while (metrics.len > 0) {
        bool has_end = bytes_split(metrics, '\n', &line, &metrics);

        if (line.len > 0 && line.at[0] == '#') {
            text_add(to, line);
        } else {
            add_series(line, to);
        }
        if (has_end) {
            text_char(to, '\n');
        }
    }
}
