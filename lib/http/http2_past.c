/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the peer may not send any more: nothing but PRIORITY, WINDOW_UPDATE and RST_STREAM on a stream that
 * it has ended or reset itself (RFC 9113 5.1), and no request on a stream below one that it has opened
 * (5.1.1). Either ends the connection, for a peer that is confused about its streams mixes up requests.
 *
 * nghttp2 does not tell. It was asked to forget closed streams, which would cost memory for each of them,
 * and takes a frame on a forgotten one for a late one, as most are: the peer had not seen our RST_STREAM.
 * So the heads of frames are looked at here, before nghttp2 has them; the rest of a frame is skipped.
 *
 * Only the last few streams are remembered. To forget one means that its frames are ignored, which
 * does no harm.
 */
#include "http/http2_conn.h"

#define PREFACE_BYTES    24 /* RFC 9113 3.4 */
#define FRAME_HEAD_BYTES 9  /* RFC 9113 4.1 */

void h2_past_init(struct h2_past *p)
{
    *p = (struct h2_past){.last = -1, .skip = PREFACE_BYTES};
}

static bool is_ended(const struct h2_past *p, int32_t id)
{
    bool found = false;

    for (unsigned i = 0; i < H2_PAST_ENDED; i++) { /* without a branch for each: this is every DATA frame */
        found |= p->ended[i] == id;
    }
    return found;
}

static bool is_passed_over(const struct h2_past *p, int32_t id)
{
    for (unsigned i = 0; i < H2_PAST_GAPS; i++) {
        if (id > p->gaps[i].after && id < p->gaps[i].before) {
            return true;
        }
    }
    return false;
}

/* A HEADERS frame: it opens a stream, or has the trailers of one. */
static uint32_t look_at_headers(struct h2_past *p, int32_t id)
{
    if (id <= p->last) {
        return is_passed_over(p, id) ? NGHTTP2_PROTOCOL_ERROR
               : is_ended(p, id)     ? NGHTTP2_STREAM_CLOSED
                                     : NGHTTP2_NO_ERROR;
    }
    if (id - 2 > p->last) {
        p->gaps[p->gap_at].after = p->last;
        p->gaps[p->gap_at].before = id;
        p->gap_at = (p->gap_at + 1) % H2_PAST_GAPS;
    }
    p->last = id;
    return NGHTTP2_NO_ERROR;
}

static uint32_t look_at_frame(struct h2_past *p, const unsigned char *head)
{
    int32_t id = (int32_t)((head[5] & 0x7fu) << 24 | (unsigned)head[6] << 16 |
                           (unsigned)head[7] << 8 | head[8]);
    unsigned type = head[3];
    bool ends = type == NGHTTP2_RST_STREAM || (head[4] & NGHTTP2_FLAG_END_STREAM) != 0;
    uint32_t code = NGHTTP2_NO_ERROR;

    if (id % 2 == 0) {
        return code; /* of the connection, or nghttp2 knows what is wrong with it */
    }
    if (type == NGHTTP2_HEADERS) {
        code = look_at_headers(p, id);
    } else if (type == NGHTTP2_DATA) {
        code = is_ended(p, id) ? NGHTTP2_STREAM_CLOSED : code;
    } else if (type != NGHTTP2_RST_STREAM) {
        return code;
    }
    if (ends && id <= p->last) {
        p->ended[p->ended_at] = id;
        p->ended_at = (p->ended_at + 1) % H2_PAST_ENDED;
    }
    return code;
}

uint32_t h2_past_feed(struct h2_past *p, const unsigned char *at, size_t len)
{
    uint32_t code = NGHTTP2_NO_ERROR;

    while (len > p->skip && code == NGHTTP2_NO_ERROR) {
        const unsigned char *head = at + p->skip;
        size_t left = len - p->skip, part = MIN(left, FRAME_HEAD_BYTES - p->head_len);

        if (part < FRAME_HEAD_BYTES) { /* cut in two by a read */
            memcpy(p->head + p->head_len, head, part);
            p->head_len += (unsigned)part;
            head = p->head;
        }
        at += p->skip + part;
        len -= p->skip + part;
        p->skip = 0;
        if (part < FRAME_HEAD_BYTES && p->head_len < FRAME_HEAD_BYTES) {
            return code;
        }
        p->head_len = 0;
        p->skip = (unsigned)head[0] << 16 | (unsigned)head[1] << 8 | head[2];
        code = look_at_frame(p, head);
    }
    p->skip -= (unsigned)MIN(len, p->skip);
    return code;
}
