/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The notation of gRPC's fields: statuses, timeouts, messages in percent encoding.
 */
#include "core/clock.h"
#include "core/err.h"
#include "http/grpc_private.h"

#include <inttypes.h>

static const char *const status_names[] = {
    [GRPC_OK] = "OK",
    [GRPC_CANCELLED] = "Canceled",
    [GRPC_UNKNOWN] = "Unknown",
    [GRPC_INVALID_ARGUMENT] = "InvalidArgument",
    [GRPC_DEADLINE_EXCEEDED] = "DeadlineExceeded",
    [GRPC_NOT_FOUND] = "NotFound",
    [GRPC_ALREADY_EXISTS] = "AlreadyExists",
    [GRPC_PERMISSION_DENIED] = "PermissionDenied",
    [GRPC_RESOURCE_EXHAUSTED] = "ResourceExhausted",
    [GRPC_FAILED_PRECONDITION] = "FailedPrecondition",
    [GRPC_ABORTED] = "Aborted",
    [GRPC_OUT_OF_RANGE] = "OutOfRange",
    [GRPC_UNIMPLEMENTED] = "Unimplemented",
    [GRPC_INTERNAL] = "Internal",
    [GRPC_UNAVAILABLE] = "Unavailable",
    [GRPC_DATA_LOSS] = "DataLoss",
    [GRPC_UNAUTHENTICATED] = "Unauthenticated",
};

const char *grpc_status_name(unsigned status)
{
    return status < ARRAY_LEN(status_names) ? status_names[status] : "";
}

unsigned grpc_status_of_http(unsigned http_status)
{
    switch (http_status) {
    case 400:
        return GRPC_INTERNAL;
    case 401:
        return GRPC_UNAUTHENTICATED;
    case 403:
        return GRPC_PERMISSION_DENIED;
    case 404:
        return GRPC_UNIMPLEMENTED;
    case 429:
    case 502:
    case 503:
    case 504:
        return GRPC_UNAVAILABLE;
    default:
        return GRPC_UNKNOWN;
    }
}

bool grpc_status_find(const struct fields *f, enum grpc_status *out_status)
{
    const struct field *field = fields_get(f, FIELD_GRPC_STATUS);
    uint64_t status;

    if (field == NULL || bytes_to_u64(field->value, UINT32_MAX, &status) != 0) {
        return false;
    }
    *out_status = status < ARRAY_LEN(status_names) ? (enum grpc_status)status : GRPC_UNKNOWN;
    return true;
}

bool grpc_is_content_type(const struct fields *f)
{
    const struct field *field = fields_get(f, FIELD_CONTENT_TYPE);
    struct bytes grpc = BYTES("application/grpc");

    return field != NULL && bytes_starts(field->value, grpc) &&
           (field->value.len == grpc.len || field->value.at[grpc.len] == '+' ||
            field->value.at[grpc.len] == ';');
}

/* --- timeouts ------------------------------------------------------------------------------------ */

static const struct {
    uint64_t ns;
    char letter;
} units[] = {
    {1, 'n'},        {NS_PER_US, 'u'},     {NS_PER_MS, 'm'},
    {NS_PER_S, 'S'}, {60 * NS_PER_S, 'M'}, {3600 * NS_PER_S, 'H'},
};

struct bytes grpc_timeout_print(uint64_t timeout_ns, char to[GRPC_TIMEOUT_BYTES])
{
    for (unsigned i = 0; i < ARRAY_LEN(units); i++) {
        uint64_t count = timeout_ns / units[i].ns + (timeout_ns % units[i].ns != 0);

        if (count <= 99999999) {
            int n = snprintf(to, GRPC_TIMEOUT_BYTES, "%" PRIu64 "%c", count, units[i].letter);

            return bytes_of(to, (size_t)n);
        }
    }
    return BYTES("99999999H"); /* 2^64 ns are 585 years: not reached */
}

int grpc_timeout_parse(struct bytes text, uint64_t *out_ns)
{
    uint64_t count;

    if (text.len < 2 || text.len > 9 ||
        bytes_to_u64(bytes_first(text, text.len - 1), 99999999, &count) != 0) {
        return E_SYNTAX;
    }
    for (unsigned i = 0; i < ARRAY_LEN(units); i++) {
        if (text.at[text.len - 1] == units[i].letter) {
            *out_ns = count > UINT64_MAX / units[i].ns ? UINT64_MAX : count * units[i].ns;
            return 0;
        }
    }
    return E_SYNTAX;
}

/* --- messages ------------------------------------------------------------------------------------ */

void grpc_text_encode(struct text *to, struct bytes plain)
{
    static const char hex[] = "0123456789ABCDEF";

    for (size_t i = 0; i < plain.len && i < GRPC_TEXT_MAX; i++) {
        unsigned char c = (unsigned char)plain.at[i];

        if (c >= 0x20 && c <= 0x7e && c != '%') {
            text_char(to, (char)c);
        } else {
            text_char(to, '%');
            text_char(to, hex[c >> 4]);
            text_char(to, hex[c & 15]);
        }
    }
}

void grpc_text_decode(struct text *to, struct bytes encoded)
{
    for (size_t i = 0; i < encoded.len; i++) {
        int high = -1, low = -1;

        if (encoded.at[i] == '%' && encoded.len - i > 2) {
            high = bytes_hex_digit(encoded.at[i + 1]);
            low = bytes_hex_digit(encoded.at[i + 2]);
        }
        if (high < 0 || low < 0) {
            text_char(to, encoded.at[i]);
        } else {
            text_char(to, (char)(high << 4 | low));
            i += 2;
        }
    }
}
