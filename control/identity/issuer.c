/* SPDX-License-Identifier: Apache-2.0 */
#include "control/identity/issuer.h"

#include "core/alloc.h"
#include "core/clock.h"
#include "core/err.h"
#include "core/log.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILE_BYTES_MAX 65536
#define LOOK_NS        (2 * NS_PER_S)

struct issuer {
    struct loop *loop;
    const char *dir;
    struct tls_issuer *current;
    struct timer look;
    char *chain, *key; /* the texts that were read last, good or bad */
    bool was_bad;
};

/* Small files change as a whole (a Secret's mount, a rename): compare their text. */
static char *read_file(const char *dir, const char *name)
{
    char path[4096];
    char *text;
    ssize_t got;
    int fd;

    snprintf(path, sizeof(path), "%s/%s", dir, name);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return NULL;
    }
    text = mem_new(FILE_BYTES_MAX + 1);
    got = read(fd, text, FILE_BYTES_MAX);
    (void)close(fd);
    if (got <= 0) {
        mem_free(text);
        return NULL;
    }
    return text;
}

static bool text_same(const char *a, const char *b)
{
    return a == b || (a != NULL && b != NULL && strcmp(a, b) == 0);
}

static void note_bad(struct issuer *i, const char *why)
{
    if (!i->was_bad) {
        log_error("the issuer's certificate cannot be used: %s; dir=%s needs=\"crt.pem and "
                  "key.pem, or tls.crt and tls.key\"",
                  why, i->dir);
    }
    i->was_bad = true;
}

static void issuer_look(struct issuer *i)
{
    char *chain = read_file(i->dir, "crt.pem"), *key = read_file(i->dir, "key.pem");
    struct tls_issuer *fresh;
    int rc;

    if (chain == NULL && key == NULL) {
        chain = read_file(i->dir, "tls.crt");
        key = read_file(i->dir, "tls.key");
    }
    if (chain == NULL || key == NULL) {
        note_bad(i, "a file is missing or empty");
        mem_free(chain);
        mem_free(key);
        return;
    }
    if (text_same(chain, i->chain) && text_same(key, i->key)) {
        mem_free(chain);
        explicit_bzero(key, strlen(key));
        mem_free(key);
        return;
    }
    mem_free(i->chain);
    mem_free(i->key);
    i->chain = chain;
    i->key = key;
    rc = tls_issuer_new(bytes_str(chain), bytes_str(key), &fresh);
    if (rc != 0) {
        note_bad(i, err_text(rc));
        return;
    }
    tls_issuer_free(i->current);
    i->current = fresh;
    i->was_bad = false;
    log_info("issuer certificate loaded; dir=%s", i->dir);
}

static void on_look(struct timer *t)
{
    struct issuer *i = CONTAINER_OF(t, struct issuer, look);

    issuer_look(i);
    timer_arm_in(i->loop, &i->look, LOOK_NS);
}

struct issuer *issuer_open(const struct control_env *env)
{
    struct issuer *i = mem_new(sizeof(*i));

    i->loop = env->loop;
    i->dir = env->issuer_dir;
    i->look.run = on_look;
    issuer_look(i);
    timer_arm_in(i->loop, &i->look, LOOK_NS);
    return i;
}

const struct tls_issuer *issuer_get(const struct issuer *i)
{
    return i->current;
}

void issuer_close(struct issuer *i)
{
    if (i == NULL) {
        return;
    }
    timer_cancel(i->loop, &i->look);
    tls_issuer_free(i->current);
    mem_free(i->chain);
    if (i->key != NULL) {
        explicit_bzero(i->key, strlen(i->key));
    }
    mem_free(i->key);
    mem_free(i);
}
