/* SPDX-License-Identifier: Apache-2.0 */
/*
 * HTTP/1 as a server: what the user of its stream asks for, which is the answer.
 */
#include "core/clock.h"
#include "core/err.h"
#include "http/http1_server.h"

static struct http1_server *server_of_stream(struct stream *s)
{
    return CONTAINER_OF(s, struct http1_server, c.s);
}

static enum http1_framing response_framing(const struct http1_server *sv, const struct head *h,
                                           bool ends)
{
    /* RFC 9112 6.3: these have no body, whatever their fields say. */
    if (sv->is_head || h->status < 200 || h->status == 204 || h->status == 304 ||
        (sv->is_connect && h->status / 100 == 2)) {
        return HTTP1_NO_BODY;
    }
    if (ends || h->content_length >= 0) {
        return HTTP1_LENGTH;
    }
    return sv->is_10 ? HTTP1_UNTIL_CLOSE : HTTP1_CHUNKED; /* RFC 9112 6.1 */
}

static int send_interim(struct http1_server *sv, const struct head *h)
{
    struct http1_print how = {.framing = HTTP1_NO_BODY};

    if (sv->is_10) {
        return 0; /* RFC 9110 15.2: HTTP/1.0 knows none */
    }
    TRY(http1_print_head(h, &how, &sv->c.out, &sv->c.loop->chunks));
    if (h->status == 100) {
        sv->waits_for_continue = false;
    }
    task_wake_late(sv->c.loop, &sv->c.late);
    return 0;
}

static int server_send_head(struct stream *s, const struct head *h, bool ends)
{
    struct http1_server *sv = server_of_stream(s);
    struct http1_print how = {.framing = response_framing(sv, h, ends)};
    bool is_upgrade = h->status == 101 || (sv->is_connect && h->status / 100 == 2);
    bool close_after = sv->close_after;
    struct head copy = *h; /* shallow: only what frames is changed */
    char date[30];

    assert(!s->sent_head && !s->sent_end && h->status != 0);
    if (sv->state != SERVER_EXCHANGE) { /* on_reset is on its way; what is sent is dropped */
        s->sent_head = h->status >= 200;
        s->sent_end = s->sent_head && ends;
        return 0;
    }
    if (h->status < 200 && !is_upgrade) {
        return send_interim(sv, h);
    }
    if (how.framing == HTTP1_LENGTH && ends && h->content_length > 0) {
        return E_SYNTAX; /* a length without its bytes */
    }
    /* RFC 9110 10.1.1: a client that was not told to continue may or may not send its body. Nobody
     * knows what the next bytes will be. */
    close_after = close_after || is_upgrade || how.framing == HTTP1_UNTIL_CLOSE ||
                  (sv->waits_for_continue && !s->got_end);
    how.close_after = close_after && !is_upgrade;
    how.says_keep_alive = sv->is_10;
    copy.is_upgrade = is_upgrade;
    if (h->status != 101 && fields_get(&h->fields, FIELD_DATE) == NULL) {
        http_date(clock_wall_ns(), date);
        how.date = bytes_of(date, sizeof(date) - 1);
    }
    TRY(http1_print_head(&copy, &how, &sv->c.out, &sv->c.loop->chunks));
    sv->close_after = close_after;
    sv->sent_upgrade = is_upgrade;
    http1_body_send_begin(&sv->c, how.framing, h->content_length);
    s->sent_head = true;
    s->sent_end = ends;
    task_wake_late(sv->c.loop, &sv->c.late);
    return 0;
}

static void server_stream_close(struct stream *s, enum reset why)
{
    struct http1_server *sv = server_of_stream(s);
    bool has_ended = s->got_end && s->sent_end, is_answered = s->sent_end, is_begun = s->sent_head;

    assert(sv->c.has_stream);
    assert(why != RESET_NONE || is_answered || sv->state != SERVER_EXCHANGE);
    http1_stream_end(&sv->c);
    http1_conn_wake(&sv->c);
    if (sv->state != SERVER_EXCHANGE) {
        return;
    }
    sv->is_done = sv->is_last && has_ended;
    if (!is_answered) {
        /* RFC 9112 8: a client tells a response that broke off from a whole one by its length, or,
         * where that is the connection's end, by a reset. No response at all speaks for itself. */
        sv->aborts = is_begun && sv->c.tx == HTTP1_UNTIL_CLOSE;
        http1_server_linger(sv);
    } else if (sv->close_after || sv->is_draining) {
        http1_server_linger(sv);
    } else {
        http1_server_set_state(sv, has_ended ? SERVER_HEAD : SERVER_DISCARD);
    }
}

static int server_stream_take(struct stream *s, struct io **out_io, struct chain *out_unsent,
                              struct chain *out_unread)
{
    struct http1_server *sv = server_of_stream(s);
    struct http1_conn *c = &sv->c;

    if (sv->state != SERVER_EXCHANGE || !sv->sent_upgrade || !s->got_end || c->tx_err != 0) {
        return E_UNSUPPORTED;
    }
    http1_give(c, out_io, out_unsent, out_unread);
    sv->base.io = NULL;
    http1_server_set_state(sv, SERVER_CLOSED);
    http1_conn_wake(c);
    return 0;
}

const struct stream_ops http1_server_stream_ops = {
    .send_head = server_send_head,
    .send_data = http1_send_data,
    .send_end = http1_send_end,
    .credit = http1_credit,
    .close = server_stream_close,
    .take = server_stream_take,
};
