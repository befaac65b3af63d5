/* SPDX-License-Identifier: Apache-2.0 */
#include "cluster/dir.h"

#include "core/alloc.h"
#include "core/err.h"

struct review_open {
    struct review base;
    struct list node; /* reviews.open */
    struct token_review *asker;
    char *token, *audience;
    size_t token_len;
};

static void review_free(struct review_open *q)
{
    list_unlink(&q->node);
    q->asker->pending = NULL;
    explicit_bzero(q->token, q->token_len);
    mem_free(q->token);
    mem_free(q->audience);
    mem_free(q);
}

/* One answer a run: the asker may cancel others, ask again or close the cluster. */
static void reviews_run(struct task *t)
{
    struct reviews *rs = CONTAINER_OF(t, struct reviews, run);
    struct list *node = list_is_empty(&rs->open) ? NULL : rs->open.next;
    struct review_open *q;
    struct token_review *asker;
    char user[TOKEN_USER_BYTES] = "", problem[256] = "";
    int err;

    if (node == NULL) {
        return;
    }
    q = LIST_ITEM(node, struct review_open, node);
    asker = q->asker;
    err = token_verify(rs->key_path, bytes_of(q->token, q->token_len), q->audience, user,
                       sizeof(user), problem, sizeof(problem));
    review_free(q);
    if (!list_is_empty(&rs->open)) {
        task_wake(rs->loop, &rs->run);
    }
    asker->on_answer(asker, err, user, problem);
}

void reviews_init(struct reviews *rs, struct loop *l, char *key_path)
{
    *rs = (struct reviews){.run = {.run = reviews_run}, .loop = l, .key_path = key_path};
    list_init(&rs->open);
}

void reviews_clear(struct reviews *rs)
{
    task_cancel(&rs->run);
    while (!list_is_empty(&rs->open)) {
        review_free(LIST_ITEM(rs->open.next, struct review_open, node));
    }
    mem_free(rs->key_path);
    rs->key_path = NULL;
}

void reviews_ask(struct reviews *rs, struct cluster *c, struct token_review *r, struct bytes token,
                 const char *audience)
{
    struct review_open *q = mem_new(sizeof(*q));

    q->base.cluster = c;
    q->asker = r;
    /* One byte more than allowed is enough for token_verify() to say that it is too long. */
    q->token_len = MIN(token.len, (size_t)TOKEN_BYTES_MAX + 1);
    q->token = mem_new(q->token_len + 1);
    if (q->token_len > 0) {
        memcpy(q->token, token.at, q->token_len);
    }
    q->audience = mem_strdup(audience);
    r->pending = &q->base;
    list_append(&rs->open, &q->node);
    task_wake(rs->loop, &rs->run);
}

void reviews_cancel(struct token_review *r)
{
    review_free(CONTAINER_OF(r->pending, struct review_open, base));
}

void cluster_review_cancel(struct token_review *r)
{
    if (r->pending != NULL) {
        r->pending->cluster->ops->review_cancel(r);
    }
}
