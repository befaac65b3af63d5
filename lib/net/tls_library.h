/* SPDX-License-Identifier: Apache-2.0 */
#ifndef NET_TLS_LIBRARY_H
#define NET_TLS_LIBRARY_H

/*
 * The TLS library, and all that differs between the two that Tulle builds with: AWS-LC, and Debian's
 * OpenSSL 3.0 where that cannot be had (decision 0013). Everything else uses what both have.
 */
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#ifdef OPENSSL_IS_AWSLC

#define TLS_LIBRARY AWSLC_VERSION_NAME " " AWSLC_VERSION_NUMBER_STRING
#define TLS_IS_FIPS (FIPS_mode() == 1)

/* Post-quantum first, as Linkerd's proxy offers it (wire 4.4). */
#define TLS_GROUPS "X25519MLKEM768:X25519:P-256:P-384"

/* One list governs both directions. */
#define SSL_CTX_set1_client_sigalgs_list(ctx, list) 1
/* Its TLS 1.3 has no such mode to turn off. */
#define SSL_OP_ENABLE_MIDDLEBOX_COMPAT 0
/* It wipes all memory that it gives back. */
#define BIO_s_secmem()                 BIO_s_mem()
#define SSL_R_PACKET_LENGTH_TOO_LONG   SSL_R_ENCRYPTED_LENGTH_TOO_LONG
#define SSL_R_BAD_RECORD_TYPE          SSL_R_UNEXPECTED_RECORD

#else

#define TLS_LIBRARY OpenSSL_version(OPENSSL_VERSION)
#define TLS_IS_FIPS (EVP_default_properties_is_fips_enabled(NULL) == 1)
#define TLS_GROUPS  "X25519:P-256:P-384"

#endif

#endif
