/* SPDX-License-Identifier: Apache-2.0 */
#include "local/supervisor.h"

#include "core/err.h"

static int digit(char c)
{
    return c >= 'A' && c <= 'Z'   ? c - 'A'
           : c >= 'a' && c <= 'z' ? c - 'a' + 26
           : c >= '0' && c <= '9' ? c - '0' + 52
           : c == '+'             ? 62
           : c == '/'             ? 63
                                  : -1;
}

/* Strict base64 of a Secret's data (RFC 4648 4), padding needed. */
int secret_decode(const char *base64, struct text *out)
{
    size_t len = strlen(base64);
    size_t pad = len >= 2 && base64[len - 2] == '='   ? 2
                 : len >= 1 && base64[len - 1] == '=' ? 1
                                                      : 0;
    unsigned bits = 0, held = 0;

    if (len % 4 != 0) {
        return E_SYNTAX;
    }
    for (size_t i = 0; i + pad < len; i++) {
        int d = digit(base64[i]);

        if (d < 0) {
            return E_SYNTAX;
        }
        bits = bits << 6 | (unsigned)d;
        held += 6;
        if (held >= 8) {
            held -= 8;
            text_char(out, (char)(bits >> held & 0xffu));
        }
    }
    return out->err;
}
