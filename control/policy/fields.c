/* SPDX-License-Identifier: Apache-2.0 */
#include "control/policy/fields.h"

#include "core/macros.h"

/*
 * The tables. A key that one of the readers of this folder, or profile_routes.c, looks at stands here; a test
 * compares (tests/mesh/test_policy_words.py).
 */

const struct known_field metadata_fields[] = {
    {"name", SHAPE_TEXT, NULL},
    {"namespace", SHAPE_TEXT, NULL},
    {"labels", SHAPE_MAP, NULL},
    {"annotations", SHAPE_MAP, NULL},
    {"creationTimestamp", SHAPE_ANY, NULL},
    {"deletionGracePeriodSeconds", SHAPE_ANY, NULL},
    {"deletionTimestamp", SHAPE_ANY, NULL},
    {"finalizers", SHAPE_ANY, NULL},
    {"generateName", SHAPE_ANY, NULL},
    {"generation", SHAPE_ANY, NULL},
    {"managedFields", SHAPE_ANY, NULL},
    {"ownerReferences", SHAPE_ANY, NULL},
    {"resourceVersion", SHAPE_ANY, NULL},
    {"selfLink", SHAPE_ANY, NULL},
    {"uid", SHAPE_ANY, NULL},
    {NULL, SHAPE_ANY, NULL},
};

/* --- parts --------------------------------------------------------------------------------------- */

static const struct known_field reference[] = {
    {"group", SHAPE_TEXT, NULL},
    {"kind", SHAPE_TEXT, NULL},
    {"name", SHAPE_TEXT, NULL},
    {"namespace", SHAPE_TEXT, NULL},
    {NULL, SHAPE_ANY, NULL},
};

static const struct known_field account[] = {
    {"name", SHAPE_TEXT, NULL},
    {"namespace", SHAPE_TEXT, NULL},
    {NULL, SHAPE_ANY, NULL},
};

static const struct known_field network[] = {
    {"cidr", SHAPE_TEXT, NULL},
    {"except", SHAPE_TEXTS, NULL},
    {NULL, SHAPE_ANY, NULL},
};

static const struct known_field expression[] = {
    {"key", SHAPE_TEXT, NULL},
    {"operator", SHAPE_TEXT, NULL},
    {"values", SHAPE_TEXTS, NULL},
    {NULL, SHAPE_ANY, NULL},
};

static const struct known_field selector[] = {
    {"matchLabels", SHAPE_MAP, NULL},
    {"matchExpressions", SHAPE_LIST, expression},
    {NULL, SHAPE_ANY, NULL},
};

/* --- who may come -------------------------------------------------------------------------------- */

static const struct known_field server[] = {
    {"accessPolicy", SHAPE_TEXT, NULL},
    {"externalWorkloadSelector", SHAPE_MAP, selector},
    {"podSelector", SHAPE_MAP, selector},
    {"port", SHAPE_ANY, NULL}, /* a number or a name */
    {"proxyProtocol", SHAPE_TEXT, NULL},
    {NULL, SHAPE_ANY, NULL},
};

static const struct known_field mesh_tls[] = {
    {"identities", SHAPE_TEXTS, NULL},
    {"serviceAccounts", SHAPE_LIST, account},
    {"unauthenticatedTLS", SHAPE_BOOL, NULL},
    {NULL, SHAPE_ANY, NULL},
};

static const struct known_field client[] = {
    {"meshTLS", SHAPE_MAP, mesh_tls},
    {"networks", SHAPE_MIXED, network},
    {"unauthenticated", SHAPE_BOOL, NULL},
    {NULL, SHAPE_ANY, NULL},
};

static const struct known_field server_of[] = {
    {"name", SHAPE_TEXT, NULL},
    {"selector", SHAPE_MAP, selector},
    {NULL, SHAPE_ANY, NULL},
};

static const struct known_field server_authorization[] = {
    {"client", SHAPE_MAP, client},
    {"server", SHAPE_MAP, server_of},
    {NULL, SHAPE_ANY, NULL},
};

static const struct known_field authorization_policy[] = {
    {"requiredAuthenticationRefs", SHAPE_LIST, reference},
    {"targetRef", SHAPE_MAP, reference},
    {NULL, SHAPE_ANY, NULL},
};

static const struct known_field mesh_tls_authentication[] = {
    {"identities", SHAPE_TEXTS, NULL},
    {"identityRefs", SHAPE_LIST, reference},
    {NULL, SHAPE_ANY, NULL},
};

static const struct known_field network_authentication[] = {
    {"networks", SHAPE_MIXED, network},
    {NULL, SHAPE_ANY, NULL},
};

static const struct known_field limit[] = {
    {"requestsPerSecond", SHAPE_NUMBER, NULL},
    {NULL, SHAPE_ANY, NULL},
};

static const struct known_field override[] = {
    {"clientRefs", SHAPE_LIST, reference},
    {"requestsPerSecond", SHAPE_NUMBER, NULL},
    {NULL, SHAPE_ANY, NULL},
};

static const struct known_field rate_limit[] = {
    {"identity", SHAPE_MAP, limit},
    {"overrides", SHAPE_LIST, override},
    {"targetRef", SHAPE_MAP, reference},
    {"total", SHAPE_MAP, limit},
    {NULL, SHAPE_ANY, NULL},
};

static const struct known_field egress_network[] = {
    {"networks", SHAPE_MIXED, network},
    {"trafficPolicy", SHAPE_TEXT, NULL},
    {NULL, SHAPE_ANY, NULL},
};

/* --- routes -------------------------------------------------------------------------------------- */

static const struct known_field parent[] = {
    {"group", SHAPE_TEXT, NULL},
    {"kind", SHAPE_TEXT, NULL},
    {"name", SHAPE_TEXT, NULL},
    {"namespace", SHAPE_TEXT, NULL},
    {"port", SHAPE_NUMBER, NULL},
    {"sectionName", SHAPE_TEXT, NULL},
    {NULL, SHAPE_ANY, NULL},
};

static const struct known_field header[] = {
    {"name", SHAPE_TEXT, NULL},
    {"value", SHAPE_TEXT, NULL},
    {NULL, SHAPE_ANY, NULL},
};

static const struct known_field header_modifier[] = {
    {"add", SHAPE_LIST, header},
    {"remove", SHAPE_TEXTS, NULL},
    {"set", SHAPE_LIST, header},
    {NULL, SHAPE_ANY, NULL},
};

static const struct known_field path_modifier[] = {
    {"replaceFullPath", SHAPE_TEXT, NULL},
    {"replacePrefixMatch", SHAPE_TEXT, NULL},
    {"type", SHAPE_TEXT, NULL},
    {NULL, SHAPE_ANY, NULL},
};

static const struct known_field redirect[] = {
    {"hostname", SHAPE_TEXT, NULL},
    {"path", SHAPE_MAP, path_modifier},
    {"port", SHAPE_NUMBER, NULL},
    {"scheme", SHAPE_TEXT, NULL},
    {"statusCode", SHAPE_NUMBER, NULL},
    {NULL, SHAPE_ANY, NULL},
};

/* Those of filters that are not supported have no table: such a filter is refused by its type. */
static const struct known_field filter[] = {
    {"cors", SHAPE_ANY, NULL},
    {"extensionRef", SHAPE_ANY, NULL},
    {"externalAuth", SHAPE_ANY, NULL},
    {"requestHeaderModifier", SHAPE_MAP, header_modifier},
    {"requestMirror", SHAPE_ANY, NULL},
    {"requestRedirect", SHAPE_MAP, redirect},
    {"responseHeaderModifier", SHAPE_MAP, header_modifier},
    {"type", SHAPE_TEXT, NULL},
    {"urlRewrite", SHAPE_ANY, NULL},
    {NULL, SHAPE_ANY, NULL},
};

static const struct known_field backend_ref[] = {
    {"filters", SHAPE_LIST, filter},
    {"group", SHAPE_TEXT, NULL},
    {"kind", SHAPE_TEXT, NULL},
    {"name", SHAPE_TEXT, NULL},
    {"namespace", SHAPE_TEXT, NULL},
    {"port", SHAPE_NUMBER, NULL},
    {"weight", SHAPE_NUMBER, NULL},
    {NULL, SHAPE_ANY, NULL},
};

static const struct known_field value_match[] = {
    {"name", SHAPE_TEXT, NULL},
    {"type", SHAPE_TEXT, NULL},
    {"value", SHAPE_TEXT, NULL},
    {NULL, SHAPE_ANY, NULL},
};

static const struct known_field path_match[] = {
    {"type", SHAPE_TEXT, NULL},
    {"value", SHAPE_TEXT, NULL},
    {NULL, SHAPE_ANY, NULL},
};

static const struct known_field http_match[] = {
    {"headers", SHAPE_LIST, value_match},
    {"method", SHAPE_TEXT, NULL},
    {"path", SHAPE_MAP, path_match},
    {"queryParams", SHAPE_LIST, value_match},
    {NULL, SHAPE_ANY, NULL},
};

static const struct known_field timeouts[] = {
    {"backendRequest", SHAPE_TEXT, NULL},
    {"request", SHAPE_TEXT, NULL},
    {NULL, SHAPE_ANY, NULL},
};

static const struct known_field http_rule[] = {
    {"backendRefs", SHAPE_LIST, backend_ref},
    {"filters", SHAPE_LIST, filter},
    {"matches", SHAPE_LIST, http_match},
    {"name", SHAPE_TEXT, NULL},
    {"retry", SHAPE_UNSUPPORTED, NULL},
    {"sessionPersistence", SHAPE_UNSUPPORTED, NULL},
    {"timeouts", SHAPE_MAP, timeouts},
    {NULL, SHAPE_ANY, NULL},
};

static const struct known_field http_route[] = {
    {"hostnames", SHAPE_TEXTS, NULL},
    {"parentRefs", SHAPE_LIST, parent},
    {"rules", SHAPE_LIST, http_rule},
    {"useDefaultGateways", SHAPE_ANY, NULL},
    {NULL, SHAPE_ANY, NULL},
};

static const struct known_field grpc_method[] = {
    {"method", SHAPE_TEXT, NULL},
    {"service", SHAPE_TEXT, NULL},
    {"type", SHAPE_TEXT, NULL},
    {NULL, SHAPE_ANY, NULL},
};

static const struct known_field grpc_match[] = {
    {"headers", SHAPE_LIST, value_match},
    {"method", SHAPE_MAP, grpc_method},
    {NULL, SHAPE_ANY, NULL},
};

/* `timeouts` stood in drafts of the Gateway API, and is read. */
static const struct known_field grpc_rule[] = {
    {"backendRefs", SHAPE_LIST, backend_ref},
    {"filters", SHAPE_LIST, filter},
    {"matches", SHAPE_LIST, grpc_match},
    {"name", SHAPE_TEXT, NULL},
    {"sessionPersistence", SHAPE_UNSUPPORTED, NULL},
    {"timeouts", SHAPE_MAP, timeouts},
    {NULL, SHAPE_ANY, NULL},
};

static const struct known_field grpc_route[] = {
    {"hostnames", SHAPE_TEXTS, NULL},
    {"parentRefs", SHAPE_LIST, parent},
    {"rules", SHAPE_LIST, grpc_rule},
    {"useDefaultGateways", SHAPE_ANY, NULL},
    {NULL, SHAPE_ANY, NULL},
};

static const struct known_field opaque_rule[] = {
    {"backendRefs", SHAPE_LIST, backend_ref},
    {"name", SHAPE_TEXT, NULL},
    {NULL, SHAPE_ANY, NULL},
};

static const struct known_field tls_route[] = {
    {"hostnames", SHAPE_TEXTS, NULL},
    {"parentRefs", SHAPE_LIST, parent},
    {"rules", SHAPE_LIST, opaque_rule},
    {"useDefaultGateways", SHAPE_ANY, NULL},
    {NULL, SHAPE_ANY, NULL},
};

static const struct known_field tcp_route[] = {
    {"parentRefs", SHAPE_LIST, parent},
    {"rules", SHAPE_LIST, opaque_rule},
    {"useDefaultGateways", SHAPE_ANY, NULL},
    {NULL, SHAPE_ANY, NULL},
};

/* --- ServiceProfile ------------------------------------------------------------------------------ */

static const struct known_field condition[6] = { /* of itself, as deep as its reader allows */
    {"all", SHAPE_LIST, condition},
    {"any", SHAPE_LIST, condition},
    {"method", SHAPE_TEXT, NULL},
    {"not", SHAPE_MAP, condition},
    {"pathRegex", SHAPE_TEXT, NULL},
    {NULL, SHAPE_ANY, NULL},
};

static const struct known_field status_range[] = {
    {"max", SHAPE_NUMBER, NULL},
    {"min", SHAPE_NUMBER, NULL},
    {NULL, SHAPE_ANY, NULL},
};

static const struct known_field response_condition[5] = {
    {"all", SHAPE_LIST, response_condition},
    {"any", SHAPE_LIST, response_condition},
    {"not", SHAPE_MAP, response_condition},
    {"status", SHAPE_MAP, status_range},
    {NULL, SHAPE_ANY, NULL},
};

static const struct known_field response_class[] = {
    {"condition", SHAPE_MAP, response_condition},
    {"isFailure", SHAPE_BOOL, NULL},
    {NULL, SHAPE_ANY, NULL},
};

static const struct known_field profile_route[] = {
    {"condition", SHAPE_MAP, condition},
    {"isRetryable", SHAPE_BOOL, NULL},
    {"name", SHAPE_TEXT, NULL},
    {"responseClasses", SHAPE_LIST, response_class},
    {"timeout", SHAPE_TEXT, NULL},
    {NULL, SHAPE_ANY, NULL},
};

static const struct known_field retry_budget[] = {
    {"minRetriesPerSecond", SHAPE_NUMBER, NULL},
    {"retryRatio", SHAPE_NUMBER, NULL},
    {"ttl", SHAPE_TEXT, NULL},
    {NULL, SHAPE_ANY, NULL},
};

static const struct known_field override_of_service[] = {
    {"authority", SHAPE_TEXT, NULL},
    {"weight", SHAPE_ANY, NULL}, /* a number or a quantity */
    {NULL, SHAPE_ANY, NULL},
};

static const struct known_field service_profile[] = {
    {"dstOverrides", SHAPE_LIST, override_of_service},
    {"opaquePorts", SHAPE_ANY, NULL},
    {"retryBudget", SHAPE_MAP, retry_budget},
    {"routes", SHAPE_LIST, profile_route},
    {NULL, SHAPE_ANY, NULL},
};

/* --- kinds --------------------------------------------------------------------------------------- */

static const struct object_fields kinds[] = {
    {KIND_SERVER, "v1beta3 v1beta2 v1beta1 v1alpha1", server},
    {KIND_SERVER_AUTHORIZATION, "v1beta1 v1alpha1", server_authorization},
    {KIND_AUTHORIZATION_POLICY, "v1alpha1", authorization_policy},
    {KIND_MESH_TLS_AUTHENTICATION, "v1alpha1", mesh_tls_authentication},
    {KIND_NETWORK_AUTHENTICATION, "v1alpha1", network_authentication},
    {KIND_HTTP_LOCAL_RATE_LIMIT, "v1alpha1", rate_limit},
    {KIND_EGRESS_NETWORK, "v1alpha1", egress_network},
    {KIND_LINKERD_HTTP_ROUTE, "v1beta3 v1beta2 v1beta1 v1alpha1", http_route},
    {KIND_HTTP_ROUTE, "v1 v1beta1 v1alpha2", http_route},
    {KIND_GRPC_ROUTE, "v1 v1beta1 v1alpha2", grpc_route},
    {KIND_TLS_ROUTE, "v1 v1alpha3 v1alpha2", tls_route},
    {KIND_TCP_ROUTE, "v1alpha2", tcp_route},
    {KIND_SERVICE_PROFILE, "v1alpha2 v1alpha1", service_profile},
};

const struct object_fields *object_fields(enum kind k)
{
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        if (kinds[i].kind == k) {
            return &kinds[i];
        }
    }
    return NULL;
}

/* --- what the lack of a field widens ------------------------------------------------------------- */

#define EVERY_REQUEST "this rule fits every request"
#define EVERY_MATCH   "this match fits every request"
#define AS_THEY_ARE   "requests and responses are passed on as they are"
#define TO_PARENT     "the traffic goes to the parent itself"
#define EVERY_HOST    "the route is for every host"

/* Of a field whose loss makes an object smaller, or void, there is none: that is seen at once. */
static const struct {
    const struct known_field *of;
    const char *name; /* NULL: with none of those that are named here */
    const char *text;
} widened[] = {
    {http_route, "rules", "without rules the route fits every request"},
    {http_route, "hostnames", "without hostnames " EVERY_HOST},
    {grpc_route, "rules", "without rules the route fits every request"},
    {grpc_route, "hostnames", "without hostnames " EVERY_HOST},
    {tls_route, "hostnames", "without hostnames " EVERY_HOST},
    {http_rule, "matches", "without matches " EVERY_REQUEST},
    {http_rule, "filters", "without filters " AS_THEY_ARE},
    {http_rule, "backendRefs", "without backendRefs " TO_PARENT},
    {http_rule, NULL, "without matches " EVERY_REQUEST},
    {grpc_rule, "matches", "without matches " EVERY_REQUEST},
    {grpc_rule, "filters", "without filters " AS_THEY_ARE},
    {grpc_rule, "backendRefs", "without backendRefs " TO_PARENT},
    {grpc_rule, NULL, "without matches " EVERY_REQUEST},
    {opaque_rule, "backendRefs", "without backendRefs " TO_PARENT},
    {http_match, "path", "without path this match fits every path"},
    {http_match, "headers", "without headers this match fits requests with any headers"},
    {http_match, "method", "without method this match fits every method"},
    {http_match, "queryParams", "without queryParams this match fits every query"},
    {http_match, NULL, "having nothing else " EVERY_MATCH},
    {grpc_match, "headers", "without headers this match fits requests with any headers"},
    {grpc_match, "method", "without method this match fits every service and method"},
    {grpc_match, NULL, "having nothing else " EVERY_MATCH},
    {grpc_method, "service", "without service this match fits every service"},
    {grpc_method, "method", "without method this match fits every method"},
    {grpc_method, NULL, "having nothing else this match fits every service and method"},
    {path_match, "type", "without type it fits all paths that begin like this one"},
    {path_match, "value", "without value it stands for /"},
    {parent, "port", "without port it names every port of the parent"},
    {backend_ref, "weight", "without weight it has the weight 1"},
    {backend_ref, "filters", "without filters " AS_THEY_ARE},
    {client, "networks", "without networks all of the cluster's networks are let in"},
    {network, "except", "without except all of the network is meant"},
    {selector, "matchLabels", "without matchLabels nothing is asked of the labels by it"},
    {selector, "matchExpressions", "without matchExpressions nothing is asked of the labels by it"},
    {rate_limit, "total", "without total there is no limit for all clients together"},
    {rate_limit, "identity", "without identity no client has a limit of its own"},
    {egress_network, "networks", "without networks it is for every address out of the cluster"},
    {condition, "method", "without method this condition fits every method"},
    {condition, "pathRegex", "without pathRegex this condition fits every path"},
};

const char *field_without(const struct known_field *of, const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(widened); i++) {
        bool is_same = name == NULL || widened[i].name == NULL ? name == widened[i].name
                                                               : strcmp(name, widened[i].name) == 0;

        if (widened[i].of == of && is_same) {
            return widened[i].text;
        }
    }
    return NULL;
}
