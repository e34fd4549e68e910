# Installs Squall where administrators expect it: make && sudo make install [DESTDIR=…] [PREFIX=/usr/local]
# `make deb` makes a Debian package of the same files (cargo-deb: cargo install cargo-deb).

PREFIX ?= /usr/local
DESTDIR ?=
CARGO ?= cargo
target := $(or $(CARGO_TARGET_DIR),target)
at := $(DESTDIR)$(PREFIX)

.PHONY: all install deb

# Each program by itself: what belongs to the one must not get into the other.
all:
	$(CARGO) run --quiet --locked --package squall-cli --features pages --bin squall -- pages $(target)/pages
	$(CARGO) build --release --locked --package squall-cli
	$(CARGO) build --release --locked --package worker-launcher
	$(CARGO) build --release --locked --package docker-to-squash

# worker-launcher is not setuid until the administrator says for which group: chgrp storm FILE && chmod 6550 FILE.
install:
	install -D -m 755 $(target)/release/squall $(at)/bin/squall
	install -m 755 $(target)/release/docker-to-squash $(at)/bin/
	install -D -m 550 $(target)/release/worker-launcher $(at)/libexec/squall/worker-launcher
	install -d $(at)/share/man/man1 $(at)/share/man/man8 $(at)/share/squall/seccomp-profiles $(at)/share/doc/squall/examples
	install -m 644 $(target)/pages/squall*.1 $(at)/share/man/man1/
	install -m 644 src/programs/worker-launcher/worker-launcher.8 $(at)/share/man/man8/
	install -D -m 644 $(target)/pages/squall.bash $(at)/share/bash-completion/completions/squall
	install -D -m 644 $(target)/pages/squall.fish $(at)/share/fish/vendor_completions.d/squall.fish
	install -D -m 644 $(target)/pages/_squall $(at)/share/zsh/vendor-completions/_squall
	install -m 644 seccomp-profiles/*.json seccomp-profiles/README.md $(at)/share/squall/seccomp-profiles/
	install -m 644 src/programs/worker-launcher/worker-launcher.cfg $(at)/share/doc/squall/examples/
	install -m 644 README.md LICENSE $(at)/share/doc/squall/

deb: all
	$(CARGO) deb --no-build --locked --package squall-cli --output $(target)/debian/
