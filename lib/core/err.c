/* SPDX-License-Identifier: Apache-2.0 */
#include "core/err.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>

#define ERR_NAME_BYTES 24

static const struct {
    const char *name, *text;
    enum err_category category;
} err_table[ERR_COUNT] = {
#define ERR(name, category, text) {#name, text, ERR_##category},
#include "core/err.def"
#undef ERR
};

#define ERR(name, category, text)                                                                  \
    static_assert(sizeof(#name) <= ERR_NAME_BYTES, "raise ERR_NAME_BYTES");
#include "core/err.def"
#undef ERR

/* The lower-case names, made once before main(), so that err_name() needs no lock. */
static char err_names[ERR_COUNT][ERR_NAME_BYTES];

__attribute__((constructor)) static void err_names_init(void)
{
    for (size_t i = 0; i < ERR_COUNT; i++) {
        for (size_t j = 0; err_table[i].name[j] != '\0'; j++) {
            err_names[i][j] = (char)tolower((unsigned char)err_table[i].name[j]);
        }
    }
}

/* Index into the table, or ERR_COUNT when `err` is not one of ours. */
static size_t err_index_of(int err)
{
    return err <= -ERR_BASE && err > -(ERR_BASE + (int)ERR_COUNT) ? (size_t)(-err - ERR_BASE)
                                                                  : ERR_COUNT;
}

static enum err_category errno_category(int number)
{
    switch (number) {
    case EAGAIN:
    case EINPROGRESS:
    case EALREADY:
    case EINTR:
        return ERR_BLOCKED;
    case ECONNRESET:
    case ECONNABORTED:
    case ECONNREFUSED:
    case EPIPE:
    case ENOTCONN:
    case ESHUTDOWN:
    case ECANCELED:
        return ERR_CLOSED;
    case ETIMEDOUT:
    case ETIME:
        return ERR_TIMEOUT;
    case EPROTO:
    case EBADMSG:
    case EILSEQ:
        return ERR_PEER;
    case EACCES:
    case EPERM:
        return ERR_POLICY;
    case ENOENT:
    case ESRCH:
    case ENODEV:
    case ENXIO:
        return ERR_NOTFOUND;
    case EMFILE:
    case ENFILE:
    case ENOMEM:
    case ENOBUFS:
    case ENOSPC:
    case EDQUOT:
        return ERR_RESOURCE;
    default:
        return ERR_SYSTEM;
    }
}

enum err_category err_category(int err)
{
    size_t index = err_index_of(err);

    assert(err < 0);
    return index < ERR_COUNT ? err_table[index].category : errno_category(-err);
}

const char *err_name(int err)
{
    size_t index = err_index_of(err);
    const char *name;

    if (index < ERR_COUNT) {
        return err_names[index];
    }
    name = err == 0 ? "ok" : strerrorname_np(-err);
    return name != NULL ? name : "unknown";
}

const char *err_text(int err)
{
    size_t index = err_index_of(err);
    const char *text;

    if (index < ERR_COUNT) {
        return err_table[index].text;
    }
    text = strerrordesc_np(-err);
    return text != NULL ? text : "unknown error";
}
