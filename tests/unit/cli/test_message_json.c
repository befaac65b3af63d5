/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/diagnostics.h"
#include "core/alloc.h"
#include "tests/unit/unit.h"

static void assert_json(const ProtobufCMessage *m, const char *want)
{
    json_t *j = message_json(m);
    char *dump = json_dumps(j, JSON_COMPACT | JSON_ENCODE_ANY | JSON_REAL_PRECISION(6));

    assert_string_equal(dump, want);
    mem_free(dump);
    json_decref(j);
}

/* What a service's profile and an endpoint's look like, packed and unpacked as from the wire. */
static void a_profile_reads_as_protobuf_has_it(void **state UNUSED)
{
    Io__Linkerd__Proxy__Destination__DestinationProfile p;
    Io__Linkerd__Proxy__Destination__RetryBudget budget;
    Io__Linkerd__Proxy__Destination__WeightedAddr endpoint;
    Io__Linkerd__Proxy__Destination__WeightedAddr__MetricLabelsEntry pod, *labels[] = {&pod};
    Io__Linkerd__Proxy__Destination__ProtocolHint hint;
    Io__Linkerd__Proxy__Destination__ProtocolHint__H2 h2;
    Io__Linkerd__Proxy__Net__TcpAddress address;
    Io__Linkerd__Proxy__Net__IPAddress ip;
    Google__Protobuf__Duration ttl;
    char name[] = "web.demo.svc.cluster.local", key[] = "pod", value[] = "web-1";

    io__linkerd__proxy__destination__destination_profile__init(&p);
    io__linkerd__proxy__destination__retry_budget__init(&budget);
    io__linkerd__proxy__destination__weighted_addr__init(&endpoint);
    io__linkerd__proxy__destination__weighted_addr__metric_labels_entry__init(&pod);
    io__linkerd__proxy__destination__protocol_hint__init(&hint);
    io__linkerd__proxy__destination__protocol_hint__h2__init(&h2);
    io__linkerd__proxy__net__tcp_address__init(&address);
    io__linkerd__proxy__net__ipaddress__init(&ip);
    google__protobuf__duration__init(&ttl);
    ttl.seconds = 10;
    ttl.nanos = 250000000;
    budget.retry_ratio = 0.2f; /* whose nearest double is 0.20000000298 */
    budget.ttl = &ttl;
    ip.ipv4 = 174063617; /* wire 3.1: 10.96.0.1 */
    ip.ip_case = IO__LINKERD__PROXY__NET__IPADDRESS__IP_IPV4;
    address.ip = &ip;
    address.port = 8080;
    pod.key = key;
    pod.value = value;
    hint.h2 = &h2;
    hint.protocol_case = IO__LINKERD__PROXY__DESTINATION__PROTOCOL_HINT__PROTOCOL_H2;
    endpoint.addr = &address;
    endpoint.weight = 10000;
    endpoint.metric_labels = labels;
    endpoint.n_metric_labels = 1;
    endpoint.protocol_hint = &hint;
    p.fully_qualified_name = name;
    p.opaque_protocol = true;
    p.retry_budget = &budget;
    p.endpoint = &endpoint;
    assert_json(&p.base,
                "{\"retryBudget\":{\"retryRatio\":0.2,\"ttl\":\"10.25s\"},\"opaqueProtocol\":true,"
                "\"fullyQualifiedName\":\"web.demo.svc.cluster.local\","
                "\"endpoint\":{\"addr\":{\"ip\":\"10.96.0.1\",\"port\":8080},\"weight\":10000,"
                "\"metricLabels\":{\"pod\":\"web-1\"},\"protocolHint\":{\"h2\":{}}}}");
    ttl.nanos = 0;
    assert_json(&ttl.base, "\"10s\"");
}

static void ipv6_is_written_as_people_do(void **state UNUSED)
{
    Io__Linkerd__Proxy__Net__IPAddress ip;
    Io__Linkerd__Proxy__Net__IPv6 v6;

    io__linkerd__proxy__net__ipaddress__init(&ip);
    io__linkerd__proxy__net__ipv6__init(&v6);
    v6.first = UINT64_C(0xfd00000000000000);
    v6.last = 0x15;
    ip.ipv6 = &v6;
    ip.ip_case = IO__LINKERD__PROXY__NET__IPADDRESS__IP_IPV6;
    assert_json(&ip.base, "\"fd00::15\"");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_profile_reads_as_protobuf_has_it),
        cmocka_unit_test(ipv6_is_written_as_people_do),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
