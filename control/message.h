/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CONTROL_MESSAGE_H
#define CONTROL_MESSAGE_H

/*
 * Parts that messages of the proxy API share (wire 3.1), built in an arena, and the few pieces of the
 * protobuf encoding that put messages together from packed ones.
 *
 * Texts are borrowed unless said otherwise: packing only reads them, though protobuf-c's fields are
 * not const.
 */
#include "api/meta.pb-c.h"
#include "api/net.pb-c.h"
#include "core/arena.h"
#include "core/text.h"
#include "net/addr.h"

#include "api/google/protobuf/duration.pb-c.h"

typedef Io__Linkerd__Proxy__Net__IPAddress message_ip_address;
typedef Io__Linkerd__Proxy__Net__TcpAddress message_tcp_address;
typedef Io__Linkerd__Proxy__Net__IPNetwork message_ip_network;
typedef Io__Linkerd__Proxy__Meta__Metadata message_metadata;
typedef Google__Protobuf__Duration message_time;

/* A message with its defaults: `x *m = message_new(a, &x__descriptor)`. */
void *message_new(struct arena *a, const ProtobufCMessageDescriptor *d);
/* The array of one item that a repeated field wants. */
void *message_one(struct arena *a, void *item);
char *message_text(const char *text);
/* Map entries of any message: their types differ, their shape is one. `pairs`: key, value, ..., NULL. */
void *message_labels(struct arena *a, const ProtobufCMessageDescriptor *entry, const char *const *pairs,
                     size_t *out_count);

message_ip_address *message_ip(struct arena *a, const struct addr *ip);
message_tcp_address *message_addr(struct arena *a, const struct addr *addr);
message_ip_network *message_network(struct arena *a, const struct cidr *c);
message_time *message_duration(struct arena *a, uint64_t ns);
message_metadata *message_default(struct arena *a, const char *name);
message_metadata *message_service_ref(struct arena *a, const char *ns, const char *name, uint16_t port);
/* E_SYNTAX: no address, or a port above 65535. */
int message_addr_read(const message_tcp_address *m, struct addr *out) MUST_USE;

struct bytes message_pack(struct arena *a, const ProtobufCMessage *m); /* in the arena */
/* A field of length-delimited type, appended to a packed message. */
void message_put(struct text *to, unsigned field, struct bytes value);
/* An entry of a field of type map<string, string>. */
void message_put_label(struct text *to, unsigned field, const char *key, const char *value);

#endif
