# SPDX-License-Identifier: Apache-2.0
#
#   make            release build in build/ (installs missing packages first when run as root)
#   make debug      build-debug/    make asan   build-asan/    make tsan   build-tsan/
#   make openssl    build-openssl/, with OpenSSL for TLS whatever can be had
#   make test       everything that must pass; the last line is `N passed, N failed`
#   make test-long  fuzzing, thread sanitizer, scale, soak: about an hour; docs/tests.md has its last run
#   make demo       the demo application, meshed, on this machine; make demo-down ends it
JOBS ?= $(shell nproc)
FLAVOUR_release := --buildtype=debugoptimized
FLAVOUR_debug := --buildtype=debug
FLAVOUR_asan := --buildtype=debug -Db_sanitize=address,undefined
FLAVOUR_tsan := --buildtype=debug -Db_sanitize=thread
FLAVOUR_openssl :=
FLAVOUR_coverage := --buildtype=debug -Db_coverage=true
FLAVOUR_fuzz := --buildtype=debugoptimized -Db_sanitize=address,undefined -Db_lundef=false -Dwerror=false \
	-Dc_args=-fsanitize=fuzzer-no-link
SETUP_fuzz := CC=clang

# Meson does not see a folder that is new since it ran, so it runs again for a meson.build that is, and for another
# TLS library. Where AWS-LC cannot be had, it says so, and OpenSSL is used.
define configure
	@aws_lc=; [ $(2) = openssl ] || aws_lc=$$(tools/awslc.sh) || aws_lc=; \
	{ if [ ! -f $(1)/build.ninja ]; then $(SETUP_$(2)) meson setup $(1) $(FLAVOUR_$(2)) -Daws_lc="$$aws_lc"; \
	elif [ -n "$$(find . -path './build*' -prune -o -name meson.build -newer $(1)/build.ninja -print)" ] || \
	! grep -qFx "aws_lc = $$aws_lc" $(1)/meson-private/cmd_line.txt; \
	then meson setup --reconfigure $(1) -Daws_lc="$$aws_lc"; fi; } >$(1).log 2>&1 || { cat $(1).log; exit 1; }
	@rm -f $(1).log
endef
define build_flavour
	$(call configure,$(1),$(2))
	ninja -C $(1) -j $(JOBS)
endef

.PHONY: all programs debug asan tsan openssl configure-coverage configure-fuzz test test-long demo demo-down clean fmt

all:
	tools/deps.sh build
	$(call build_flavour,build,release)

# Without the tests, which are half of the build: for the demo, and for tests that run the release build.
programs:
	$(call configure,build,release)
	ninja -C build -j $(JOBS) tulle tulle-controller tulle-init tulle-proxy

debug:
	$(call build_flavour,build-debug,debug)

asan:
	$(call build_flavour,build-asan,asan)

tsan:
	$(call build_flavour,build-tsan,tsan)

openssl:
	$(call build_flavour,build-openssl,openssl)

# For the tests, which build some targets of them.
configure-coverage configure-fuzz: configure-%:
	$(call configure,build-$*,$*)

test:
	tests/run.sh

test-long: all
	tests/long.sh

demo:
	tools/deps.sh build
	$(MAKE) --no-print-directory programs
	demo/up.sh

demo-down:
	demo/down.sh

clean:
	rm -rf build build-debug build-asan build-tsan build-openssl build-coverage build-fuzz

# Headers are laid out by hand: their comments stand beside what they explain.
fmt:
	git ls-files '*.c' | xargs -r clang-format -i
